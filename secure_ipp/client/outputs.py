"""Showing what engines printed and displayed.

Engine output is untrusted (S31): terminals get text without control sequences other than colour; notebooks get text
and raster images, and active content (HTML, SVG, JavaScript, widgets) only where results are trusted.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from secure_ipp.client.terminal import harmless

if TYPE_CHECKING:
    from secure_ipp.client.tasks import Task

_PASSIVE = ("text/plain", "image/png", "image/jpeg", "image/gif")


def without_active_content(data: Mapping[str, Any]) -> dict[str, Any]:
    """The representations that a front end shows without running anything."""
    shown = {kind: data[kind] for kind in _PASSIVE if kind in data}
    if "text/plain" in shown:
        shown["text/plain"] = harmless(str(shown["text/plain"]))
    return shown


class Show:
    """Prints the outputs of tasks.

    Args:
        tasks: in the order of their engines.
        single: there is but one, and headings would be noise.
        trusted: active content may be shown in a notebook.
    """

    def __init__(self, tasks: Iterable[Task], *, single: bool, trusted: bool) -> None:
        self._tasks = list(tasks)
        self._single = single
        self._trusted = trusted

    def by_type(self, *, result_only: bool) -> None:
        """All stdout, all stderr, all displays, all results."""
        if not result_only:
            for name in ("stdout", "stderr"):
                for task in self._tasks:
                    self._text(task, name)
            for task in self._tasks:
                self._displays(task)
        for task in self._tasks:
            self._result(task)

    def by_engine(self, *, result_only: bool) -> None:
        """All of one engine before the next."""
        for task in self._tasks:
            if not result_only:
                self._text(task, "stdout")
                self._text(task, "stderr")
                self._displays(task)
            self._result(task)

    def by_order(self, *, result_only: bool) -> None:
        """As by type, but the first display of each engine, then the second of each, and so on."""
        if not result_only:
            for name in ("stdout", "stderr"):
                for task in self._tasks:
                    self._text(task, name)
            longest = max((len(task.printed.displays) for task in self._tasks if task.printed), default=0)
            for index in range(longest):
                for task in self._tasks:
                    if task.printed and index < len(task.printed.displays):
                        self._heading("output", task)
                        display_bundle(task.printed.displays[index], trusted=self._trusted)
        for task in self._tasks:
            self._result(task)

    def _heading(self, name: str, task: Task) -> None:
        if not self._single:
            print(f"[{name}:{task.engine}]")

    def _text(self, task: Task, name: str) -> None:
        pieces: list[str] = getattr(task.printed, name) if task.printed else []
        text = "".join(pieces)
        if not text and task.outcome is not None:
            text = getattr(task.outcome, name)
        if text:
            print_text(text, name, "" if self._single else f"[{name}:{task.engine}]")

    def _displays(self, task: Task) -> None:
        if task.printed and task.printed.displays:
            self._heading("output", task)
            for bundle in task.printed.displays:
                display_bundle(bundle, trusted=self._trusted)

    def _result(self, task: Task) -> None:
        if task.printed and task.printed.result:
            bundle = task.printed.result
            text = harmless(str(bundle.get("data", {}).get("text/plain", "")))
            if in_notebook():
                display_bundle(bundle, trusted=self._trusted)
            else:
                count = task.outcome.execution_count if task.outcome else 0
                print(f"Out[{task.engine}:{count}]: {text}")


def print_text(text: str, name: str = "stdout", heading: str = "") -> None:
    """Print an engine's text to the stream of that name."""
    stream = sys.stderr if name == "stderr" else sys.stdout
    text = harmless(text)
    if heading:
        print(heading, file=stream)
    print(text, end="" if text.endswith("\n") else "\n", file=stream, flush=True)


def in_notebook() -> bool:
    """Is this a Jupyter kernel?"""
    module = sys.modules.get("IPython")
    shell = module.get_ipython() if module is not None else None
    return shell is not None and hasattr(shell, "kernel")


def display_bundle(bundle: Mapping[str, Any], *, trusted: bool) -> None:
    """Show a rich output in a notebook, or its text in a terminal."""
    data = bundle.get("data", {})
    if not isinstance(data, dict):
        return
    if in_notebook():
        from IPython.display import publish_display_data

        publish_display_data(  # type: ignore[no-untyped-call]
            dict(data) if trusted else without_active_content(data), bundle.get("metadata", {})
        )
    elif "text/plain" in data:
        print(harmless(str(data["text/plain"])))
