"""Progress bars, where a person is watching."""

from __future__ import annotations

import sys
from typing import Any

from secure_ipp.client.outputs import in_notebook


def progress_bar(widget: bool | None, *, total: int, desc: str, unit: str) -> Any:
    """A tqdm bar: a widget in a notebook (or if asked for), text elsewhere."""
    bar: Any
    if in_notebook() if widget is None else widget:
        from tqdm.notebook import tqdm as bar
    else:
        from tqdm import tqdm as bar
    return bar(total=total, desc=desc, unit=unit)


def is_interactive() -> bool:
    """Is somebody at a prompt?"""
    module = sys.modules.get("IPython")
    return bool(module is not None and module.get_ipython() is not None)
