"""Marks on functions: dependencies, interactive functions, references."""

from __future__ import annotations

import math
import sys
from types import ModuleType
from typing import Any

import pytest

from secure_ipp.payload.markers import Reference, UnmetDependency, depend, dependent, interactive, require
from secure_ipp.payload.objects import dumps, loads


@pytest.fixture
def main(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    module = ModuleType("__main__")
    monkeypatch.setitem(sys.modules, "__main__", module)
    return vars(module)


def double(x: int) -> int:
    return 2 * x


def test_dependent_functions_survive_the_journey() -> None:
    task = depend(bool, 1)(double)
    assert isinstance(task, dependent) and task.__name__ == "double"
    back = loads(dumps(task), trust="any")
    back.check_dependency()
    assert back(4) == 8


@pytest.mark.parametrize(("answer", "met"), [(True, True), (None, True), (1, True), (False, False), (0, False)])
def test_a_dependency_is_unmet_if_it_says_so(answer: object, met: bool) -> None:
    task = depend(lambda: answer)(double)
    if met:
        task.check_dependency()
    else:
        with pytest.raises(UnmetDependency, match="double"):
            task.check_dependency()


def test_require_brings_modules_and_names(main: dict[str, Any]) -> None:
    require("xml.dom", math, double, three=3)(double).check_dependency()
    assert main["xml"].dom and main["math"] is math and main["double"](2) == 4 and main["three"] == 3
    with pytest.raises(UnmetDependency, match="no_such_module"):
        require("no_such_module")(double).check_dependency()
    with pytest.raises(TypeError):
        require(5)


def test_interactive_looks_as_if_of_main(main: dict[str, Any]) -> None:
    @interactive
    def f(x: int, *, y: int = 2) -> Any:
        """Doc."""
        return x + y + z  # type: ignore[name-defined]  # noqa: F821

    main["z"] = 10
    assert f.__module__ == "__main__" and f.__globals__ is main and f.__doc__ == "Doc."
    assert f(1) == 13

    class Thing:
        pass

    assert interactive(Thing).__module__ == "__main__"


def test_reference_shows_its_name() -> None:
    assert repr(Reference("a.b")) == "<Reference: 'a.b'>"
