"""What `execute` gives back: the cell's value as its rich representations, and what is known of its task."""

from __future__ import annotations

from typing import Any

from secure_ipp.client.metadata import KEYS, Metadata
from secure_ipp.client.outputs import display_bundle, passive
from secure_ipp.client.terminal import harmless
from secure_ipp.wire import messages

_REPR_CHARS = 32


class ExecuteReply:
    """The end of an executed cell; keys of its metadata (stdout, outputs, execute_result, ...) are attributes too.

    Front ends show the value; what would run there (HTML, SVG, JavaScript) only where results are trusted (S31).

    Attributes:
        msg_id: the task's id.
        execution_count: the cell's number at its engine.
        metadata: of the task, as of its end.
    """

    def __init__(self, outcome: messages.Outcome, metadata: Metadata, *, trusted: bool) -> None:
        self.msg_id = outcome.task
        self.execution_count = outcome.execution_count
        self.metadata = metadata
        self._trusted = trusted

    @property
    def _result(self) -> dict[str, Any]:
        return self.metadata["execute_result"] or {}

    @property
    def data(self) -> dict[str, Any]:
        """The value's representations by MIME type; empty if the cell had none or was silent."""
        data = self._result.get("data")
        return data if isinstance(data, dict) else {}

    @property
    def source(self) -> str:
        return str(self._result.get("source", ""))

    def __getitem__(self, key: str) -> Any:
        return self.metadata[key]

    def __getattr__(self, name: str) -> Any:
        if name in KEYS:
            return self.metadata[name]
        if name.startswith("_repr_") and name.endswith("_") and name[6:-1] in _MIME_TYPES:
            return lambda: self._representation(_MIME_TYPES[name[6:-1]])
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __repr__(self) -> str:
        text = str(self.data.get("text/plain", ""))
        shown = text if len(text) <= _REPR_CHARS else text[: _REPR_CHARS - 3] + "..."
        return f"<ExecuteReply[{self.execution_count}]: {harmless(shown)}>"

    # --- shown by IPython ----------------------------------------------------------------------------------------

    def display(self) -> None:
        """Show the value, as a notebook or a terminal can."""
        display_bundle(self._result, trusted=self._trusted)

    def _shown(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """(representations, their metadata) that a front end may have."""
        if not self._trusted:
            return passive(self._result)
        about = self._result.get("metadata")
        return dict(self.data), about if isinstance(about, dict) else {}

    def _representation(self, mime_type: str) -> Any:
        """One representation, with its metadata if it has some."""
        shown, metadata = self._shown()
        value, about = shown.get(mime_type), metadata.get(mime_type)
        return value if about is None or value is None else (value, about)

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(self._text())

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> tuple[dict[str, Any], Any]:
        data, metadata = self._shown()
        if "text/plain" in data:
            data["text/plain"] = self._text(data["text/plain"])
        return data, metadata

    def _text(self, shown: object = None) -> str:
        text = harmless(str(self.data.get("text/plain", "") if shown is None else shown))
        if not text:
            return repr(self)
        separator = "\n" if "\n" in text else ""
        return f"Out[{self.metadata['engine_id']}:{self.execution_count}]: {separator}{text}"


_MIME_TYPES = {
    "html": "text/html", "markdown": "text/markdown", "latex": "text/latex", "svg": "image/svg+xml",
    "png": "image/png", "jpeg": "image/jpeg", "json": "application/json", "pdf": "application/pdf",
    "javascript": "application/javascript",
}
