"""Marks that users put on functions and arguments: references, interactive functions, dependencies.

`Reference`, `interactive`, `require`, `depend` and `dependent` are public and shaped as ipyparallel's users know them.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from types import FunctionType, ModuleType
from typing import Any

from secure_ipp.errors import EngineSideError
from secure_ipp.payload.context import current_context

__all__ = ["Reference", "UnmetDependency", "depend", "dependent", "interactive", "require"]


class UnmetDependency(EngineSideError):
    """This engine is not fit for the task; another one may be."""

    code = "unmet-dependency"


class Reference:
    """Stands, in the arguments of a task, for what an expression means at the engine.

    Args:
        name: a name of the engine's namespace, or an expression of such names ("a", "a.b[0]").
    """

    def __init__(self, name: str) -> None:
        if not isinstance(name, str):
            raise TypeError(f"a reference needs a name, not {name!r}")
        self.name = name

    def __repr__(self) -> str:
        return f"<Reference: {self.name!r}>"

    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        return refer, (self.name,)


def refer(name: str) -> object:
    """What a reference becomes when it is unpickled: its object at an engine, itself elsewhere."""
    context = current_context()
    if context is None or context.resolve is None:
        return Reference(name)
    return context.resolve(name)


def interactive(f: Any) -> Any:
    """Make a function of a module behave as if it were defined in `__main__`.

    At an engine its globals are the user's namespace, not those of its module.
    """
    if isinstance(f, FunctionType):
        main = vars(sys.modules["__main__"])
        copy = FunctionType(f.__code__, main, f.__name__, f.__defaults__, f.__closure__)
        copy.__kwdefaults__ = f.__kwdefaults__
        copy.__qualname__ = f.__qualname__
        copy.__doc__ = f.__doc__
        copy.__annotations__ = dict(f.__annotations__)
        copy.__dict__.update(f.__dict__)
        copy.__module__ = "__main__"
        return copy
    f.__module__ = "__main__"
    return f


class dependent:
    """A function that runs only where another one, called with its own arguments, does not return false."""

    def __init__(
        self, _wrapped_f: Callable[..., Any], _wrapped_df: Callable[..., Any], *dargs: Any, **dkwargs: Any
    ) -> None:
        self.f = _wrapped_f
        self.df = _wrapped_df
        self.dargs = dargs
        self.dkwargs = dkwargs
        self.__name__ = getattr(_wrapped_f, "__name__", "f")

    def check_dependency(self) -> None:
        """Ask, at the engine, whether this is a place for the task.

        Raises:
            UnmetDependency: it is not.
        """
        answer = self.df(*self.dargs, **self.dkwargs)
        if answer is not None and not answer:
            name = getattr(self.df, "__name__", "the dependency")
            raise UnmetDependency(f"{name} of {self.__name__} is not met here")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call it, here, if it may run here."""
        self.check_dependency()
        return self.f(*args, **kwargs)


class depend:
    """Decorator: run the function only on engines where `f(*args, **kwargs)` does not return false.

    A dependency that returns nothing is met unless it raises `UnmetDependency`.
    """

    def __init__(self, _wrapped_f: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        self.f = _wrapped_f
        self.args = args
        self.kwargs = kwargs

    def __call__(self, f: Callable[..., Any]) -> dependent:
        return dependent(f, self.f, *self.args, **self.kwargs)


def provide(*modules: str, **names: Any) -> bool:
    """At an engine: import modules into the user's namespace and define names there.

    Raises:
        UnmetDependency: a module cannot be imported here.
    """
    namespace = vars(sys.modules["__main__"])
    for name in modules:
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise UnmetDependency(f"module {name!r} cannot be imported here: {error}") from error
        top = name.partition(".")[0]
        namespace[top] = sys.modules[top]
    namespace.update(names)
    return True


def require(*objects: Any, **mapping: Any) -> depend:
    """Decorator: see that modules and objects are there where the function runs.

    Args:
        objects: modules, or their names: imported first, and the task goes elsewhere if that fails; functions and
            classes: defined under their own names.
        mapping: other objects, by name.

    Raises:
        TypeError: an object without a name was not given one.
    """
    modules: list[str] = []
    for item in objects:
        if isinstance(item, ModuleType):
            modules.append(item.__name__)
        elif isinstance(item, str):
            modules.append(item)
        elif hasattr(item, "__name__"):
            mapping[item.__name__] = item
        else:
            raise TypeError(f"give objects that are neither modules nor functions by keyword, not {type(item)}")
    return depend(provide, *modules, **mapping)
