"""Where objects are being rebuilt: the namespace that plays `__main__`, and what functions brought along.

An engine rebuilds the pickles of a task inside a `LoadContext` whose namespace is the user's; without one the
namespace is that of this process's `__main__`.

Laws.
- Names that a function carried along never enter the namespace: they form a layer beneath it, in the place
  of the builtins, so a name that the namespace has always wins, at the moment it is looked up.
- A context is used by one thread, for one task.
"""

from __future__ import annotations

import builtins
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FunctionType, TracebackType
from typing import Any


class LoadContext:
    """One act of rebuilding.

    Args:
        namespace: globals of functions that were defined in `__main__`; None: this process's `__main__`.
        resolve: what a `Reference` by name stands for here; None leaves references as they are.
    """

    __slots__ = ("_outer", "carried", "layer", "left_out", "namespace", "resolve")

    def __init__(
        self, namespace: dict[str, Any] | None = None, resolve: Callable[[str], object] | None = None
    ) -> None:
        self.namespace = vars(sys.modules["__main__"]) if namespace is None else namespace
        self.resolve = resolve
        self.carried: dict[str, Any] = {}
        self.left_out: dict[str, str] = {}
        self.layer: dict[str, Any] | None = None
        self._outer: LoadContext | None = None

    def builtins_layer(self) -> dict[str, Any]:
        """Builtins of the functions rebuilt here that carry something; filled by `carry`."""
        if self.layer is None:
            self.layer = dict(vars(builtins))
        return self.layer

    def carry(self, names: dict[str, Any]) -> None:
        """Let these serve where the namespace has no such name."""
        self.builtins_layer().update(names)
        self.carried.update(names)

    @staticmethod
    def layer_of(function: FunctionType) -> dict[str, Any]:
        """The layer beneath the globals of a function that was rebuilt outside any context."""
        layer: dict[str, Any] = getattr(function, "__builtins__")  # noqa: B009  unknown to type checkers
        return layer

    def __enter__(self) -> LoadContext:
        self._outer = getattr(_here, "context", None)
        _here.context = self
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        _here.context = self._outer


_here = threading.local()


def current_context() -> LoadContext | None:
    """The context that this thread is rebuilding in."""
    context: LoadContext | None = getattr(_here, "context", None)
    return context


@contextmanager
def layered(namespace: dict[str, Any], layer: dict[str, Any]) -> Iterator[None]:
    """While inside, functions made in `namespace` find `layer` beneath it."""
    before = namespace.get("__builtins__", builtins)
    namespace["__builtins__"] = layer
    try:
        yield
    finally:
        namespace["__builtins__"] = before
