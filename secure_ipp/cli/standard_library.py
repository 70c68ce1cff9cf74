"""The demo's job: every module of the running Python's own standard library, read and parsed.

`modules` lists the files, `survey` runs on an engine, `Tally` adds up. Laws: every file listed ends in the tally
exactly once, as parsed or as not parsable with its reason (the library keeps such files on purpose, as test data);
nothing is left out in silence.
"""

from __future__ import annotations

import heapq
import os
import sysconfig
from dataclasses import dataclass, field
from pathlib import Path

NOT_THE_LIBRARY = {"site-packages", "dist-packages", "__pycache__"}


@dataclass(frozen=True, slots=True)
class Module:
    """What an engine found in one file.

    Attributes:
        path: the file.
        lines, functions, classes: how many; 0 when it could not be parsed.
        problem: why not; empty when it was.
    """

    path: str
    lines: int
    functions: int
    classes: int
    problem: str


def modules() -> tuple[str, list[str]]:
    """The library's directory, and the paths of its Python files, in order."""
    root = os.path.realpath(sysconfig.get_path("stdlib"))
    found: list[str] = []
    for directory, names, files in os.walk(root):
        names[:] = sorted(name for name in names if name not in NOT_THE_LIBRARY)
        found += [str(Path(directory, file)) for file in sorted(files) if file.endswith(".py")]
    return root, found


def survey(path: str) -> tuple[str, int, int, int, str]:
    """Read and parse one file; runs on an engine.  Gives the fields of a `Module`."""
    import ast
    import tokenize
    import warnings

    try:
        with tokenize.open(path) as file:
            text = file.read()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # old test data has invalid escape sequences on purpose
            tree = ast.parse(text, path)
    except (SyntaxError, ValueError, RecursionError, OSError) as error:
        return path, 0, 0, 0, f"{type(error).__name__}: {error}"
    functions = classes = 0
    for node in ast.walk(tree):
        functions += isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        classes += isinstance(node, ast.ClassDef)
    return path, text.count("\n") + (not text.endswith("\n") and bool(text)), functions, classes, ""


@dataclass(slots=True)
class Tally:
    """The sum over all files."""

    expected: set[str]
    parsed: int = 0
    lines: int = 0
    functions: int = 0
    classes: int = 0
    problems: dict[str, str] = field(default_factory=dict)
    _sizes: list[tuple[int, int, str]] = field(default_factory=list)
    _seen: set[str] = field(default_factory=set)

    def add(self, module: Module) -> None:
        """Count one file.

        Raises:
            ValueError: it is none of the library's, or has been counted before.
        """
        if module.path not in self.expected or module.path in self._seen:
            raise ValueError(f"an answer for {module.path}, which was not asked for or has been answered")
        self._seen.add(module.path)
        if module.problem:
            self.problems[module.path] = module.problem
            return
        self.parsed += 1
        self.lines += module.lines
        self.functions += module.functions
        self.classes += module.classes
        self._sizes.append((module.lines, module.functions, module.path))

    @property
    def missing(self) -> set[str]:
        """Files that no engine has answered for."""
        return self.expected - self._seen

    def largest(self, count: int) -> list[tuple[int, int, str]]:
        """(lines, functions, path) of the largest files."""
        return heapq.nlargest(count, self._sizes)
