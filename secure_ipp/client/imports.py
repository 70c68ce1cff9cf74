"""Imports here and on engines at once."""

from __future__ import annotations

import builtins
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from secure_ipp.errors import UsageError

if TYPE_CHECKING:
    from secure_ipp.client.directview import DirectView


@contextmanager
def imports_on(view: DirectView, *, local: bool, quiet: bool) -> Iterator[None]:
    """While inside, each import statement of this thread runs on the view's engines too.

    Imports that an imported module does itself are the engines' own affair.  `as` names are not carried over.

    Raises:
        UsageError: `local` is false.
    """
    if not local:
        raise UsageError("imports on engines alone are not supported here", 'use view.execute("import ...")')
    plain = builtins.__import__
    thread = threading.get_ident()
    inside = False

    def both(
        name: str, globals: Any = None, locals: Any = None, fromlist: Sequence[str] | None = (), level: int = 0
    ) -> Any:
        nonlocal inside
        if inside or level or threading.get_ident() != thread:
            return plain(name, globals, locals, fromlist or (), level)
        inside = True
        try:
            module = plain(name, globals, locals, fromlist or (), level)
            statement = f"from {name} import {', '.join(fromlist)}" if fromlist else f"import {name}"
            if not quiet:
                what = f"{', '.join(fromlist)} from {name}" if fromlist else name
                print(f"importing {what} on engine(s)")
            view.execute(statement, silent=True, block=True)
            return module
        finally:
            inside = False

    builtins.__import__ = both
    try:
        yield
    finally:
        builtins.__import__ = plain
