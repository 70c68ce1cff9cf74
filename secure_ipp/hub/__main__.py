"""``python -m secure_ipp.hub``; started by the supervisor."""

from __future__ import annotations

import sys

from secure_ipp.hub.process import main

sys.exit(main())
