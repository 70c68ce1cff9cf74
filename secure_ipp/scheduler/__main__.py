"""The scheduler, started by the supervisor."""

import sys

from secure_ipp.scheduler.process import main

sys.exit(main())
