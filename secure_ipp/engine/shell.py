"""The IPython shell of an engine: the namespace of its user, cells, magics and rich display.

A bare `InteractiveShell`: no terminal, no history database (its thread would forbid to fork), no kernel.
What it shows goes to a `Sink`; the error of a cell is kept for whoever ran it.
"""

from __future__ import annotations

import os
import sys
from types import TracebackType
from typing import Any, Protocol

import msgspec
from IPython.core.displayhook import DisplayHook
from IPython.core.displaypub import DisplayPublisher
from IPython.core.history import HistoryManager
from IPython.core.interactiveshell import InteractiveShell
from traitlets import Type

from secure_ipp.engine.output import DisplayKind


class Sink(Protocol):
    """Where rich output goes."""

    def show(self, kind: DisplayKind, content: str) -> bool:
        """Take it; False if there is no room."""


class _Nowhere:
    def show(self, kind: DisplayKind, content: str) -> bool:
        return False


def as_json(content: dict[str, Any]) -> str:
    """A MIME bundle as text; bytes (of images) as base64, unknown objects as their repr."""
    return msgspec.json.encode(content, enc_hook=repr).decode()


class EngineDisplayHook(DisplayHook):
    """Shows the value of a cell's last expression."""

    _bundle: dict[str, Any] | None = None

    def write_output_prompt(self) -> None:
        """There is no prompt; the count travels with the value."""

    def write_format_data(self, format_dict: dict[str, Any], md_dict: dict[str, Any] | None = None) -> None:
        self._bundle = {
            "data": format_dict, "metadata": md_dict or {}, "execution_count": self.prompt_count,
        }

    def finish_displayhook(self) -> None:
        bundle, self._bundle = self._bundle, None
        shell = self.shell
        if bundle is not None and isinstance(shell, EngineShell):
            shell.show("execute_result", bundle)


class EngineDisplayPublisher(DisplayPublisher):
    """Shows what user code asks to be shown."""

    def publish(
        self, data: dict[str, Any], metadata: dict[str, Any] | None = None, source: object = None, *,
        transient: dict[str, Any] | None = None, update: bool = False, **_more: Any,
    ) -> None:
        if not isinstance(data, dict):
            raise TypeError(f"what is shown must be a dict of MIME types, not {type(data).__name__}")
        bundle: dict[str, Any] = {"data": data, "metadata": metadata or {}, "transient": transient or {}}
        if update:
            bundle["update"] = True
        self.shell.show("display_data", bundle)

    def clear_output(self, wait: bool = False) -> None:
        self.shell.show("clear_output", {"wait": wait})


class NoHistory(HistoryManager):
    """History in memory only: no database, no thread."""

    def __init__(self, shell: Any = None, config: Any = None, **traits: Any) -> None:
        traits["hist_file"] = ":memory:"
        traits["enabled"] = False
        super().__init__(shell=shell, config=config, **traits)


class EngineShell(InteractiveShell):
    """The shell whose namespace is the engine's."""

    displayhook_class = Type(EngineDisplayHook)
    display_pub_class = Type(EngineDisplayPublisher)
    sink: Sink = _Nowhere()
    last_traceback: list[str] | None = None

    def init_history(self) -> None:
        self.history_manager = NoHistory(shell=self, parent=self)

    def show(self, kind: DisplayKind, bundle: dict[str, Any]) -> None:
        """Hand a bundle to the sink; what is too large is shown as text that says so."""
        if not self.sink.show(kind, as_json(bundle)) and kind in ("display_data", "execute_result"):
            kinds = ", ".join(sorted(bundle.get("data", {}))) or "nothing"
            bundle = {**bundle, "data": {"text/plain": f"(not shown: too large; it was {kinds})"}, "metadata": {}}
            self.sink.show(kind, as_json(bundle))

    def _showtraceback(self, etype: type[BaseException], evalue: BaseException, stb: list[str]) -> None:
        self.last_traceback = [line if line.endswith("\n") else line + "\n" for line in stb]

    def showtraceback(
        self, exc_tuple: tuple[type[BaseException], BaseException, TracebackType] | None = None, *args: Any,
        **settings: Any,
    ) -> None:
        settings["running_compiled_code"] = False  # keep the traceback whole, whatever compiled the code
        super().showtraceback(exc_tuple, *args, **settings)

    def ask_exit(self) -> None:
        raise SystemExit("an engine ends when its cluster says so, not by exit()")


def build_shell() -> EngineShell:
    """The one shell of this process; its namespace becomes `__main__`."""
    from traitlets.config import Config

    config = Config()
    config.InteractiveShell.colors = "nocolor"
    config.InteractiveShell.autocall = 0
    config.HistoryManager.enabled = False
    shell = EngineShell.instance(config=config)
    assert isinstance(shell, EngineShell)
    shell.xmode = "Context"
    return shell


def add_working_directory() -> None:
    """Let modules of the working directory be found, as in any interactive Python."""
    if "" not in sys.path and os.getcwd() not in sys.path:
        sys.path.insert(0, "")
