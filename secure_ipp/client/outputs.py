"""Showing what engines printed and displayed.

Engine output is untrusted (S31).  Laws:
- terminals get text without control sequences other than colour, whatever is trusted;
- notebooks get text and raster images; all else (HTML, SVG, JavaScript, LaTeX, Markdown, JSON, widgets) only where
  results are trusted (`results="any"`, see `trust`), and what was left out is said, by its kind.
There are no comms: an engine cannot open a channel to a notebook.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from secure_ipp.client.images import IMAGE_SIDE, is_picture
from secure_ipp.client.terminal import harmless, show_text

if TYPE_CHECKING:
    from secure_ipp.client.tasks import Task

_PICTURES = ("image/png", "image/jpeg")
_KIND = re.compile(r"[a-z]+/[a-zA-Z0-9.+-]{1,64}")
_KINDS_SAID = 8


def passive(bundle: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a front end may show of an untrusted engine's output: (representations, their metadata).

    Args:
        bundle: a display's or a result's, with "data" and "metadata" (unverified).

    Returns:
        Text and real pictures, the latter with no other metadata than their size; the text says what was left out.
    """
    found, about = bundle.get("data"), bundle.get("metadata")
    data = found if isinstance(found, dict) else {}
    shown: dict[str, Any] = {kind: data[kind] for kind in _PICTURES if is_picture(kind, data.get(kind))}
    text = harmless(str(data["text/plain"])) if "text/plain" in data else ""
    left_out = not_shown(kind for kind in data if kind not in shown and kind != "text/plain")
    text = "\n".join(filter(None, [text, left_out]))
    if text:
        shown["text/plain"] = text
    metadata = {kind: _size(about.get(kind)) for kind in shown} if isinstance(about, dict) else {}
    return shown, {kind: size for kind, size in metadata.items() if size}


def not_shown(kinds: Iterable[object]) -> str:
    """A sentence about the kinds of output that are not shown; empty if there are none."""
    known = [kind if isinstance(kind, str) and _KIND.fullmatch(kind) else "a kind without a proper name"
             for kind in kinds]
    if not known:
        return ""
    more = f" and {len(known) - _KINDS_SAID} more" if len(known) > _KINDS_SAID else ""
    return (
        f"[not shown: {', '.join(dict.fromkeys(known[:_KINDS_SAID]))}{more}; text and pictures are shown, the rest"
        ' where engines are trusted: results="any"]'
    )


def _size(about: object) -> dict[str, int]:
    if not isinstance(about, dict):
        return {}
    return {
        name: about[name] for name in ("width", "height")
        if type(about.get(name)) is int and 0 < about[name] <= IMAGE_SIDE
    }


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
            if in_notebook():
                display_bundle(bundle, trusted=self._trusted)
            else:
                data = bundle.get("data")
                text = harmless(str(data.get("text/plain", ""))) if isinstance(data, dict) else ""
                count = task.outcome.execution_count if task.outcome else 0
                show_text(f"Out[{task.engine}:{count}]: {text}")


def print_text(text: str, name: str = "stdout", heading: str = "") -> None:
    """Print an engine's text to the stream of that name."""
    stream = sys.stderr if name == "stderr" else sys.stdout
    if heading:
        print(heading, file=stream)
    show_text(harmless(text).removesuffix("\n"), stream)


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

        shown, about = (dict(data), bundle.get("metadata", {})) if trusted else passive(bundle)
        if shown:
            publish_display_data(shown, about)  # type: ignore[no-untyped-call]
    elif "text/plain" in data:
        show_text(harmless(str(data["text/plain"])))
    elif data:
        print(passive({"data": dict.fromkeys(data)})[0]["text/plain"])
