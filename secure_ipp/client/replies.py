"""What `execute` gives back: the cell's value as its rich representations."""

from __future__ import annotations

from typing import Any

from secure_ipp.wire import messages


class ExecuteReply:
    """The end of an executed cell.

    Attributes:
        msg_id: the task's id.
        execution_count: the cell's number at its engine.
        data: the value's representations by MIME type; empty if the cell had none or was silent.
        metadata: of those.
    """

    def __init__(self, msg_id: str, outcome: messages.Outcome, result: dict[str, Any] | None) -> None:
        self.msg_id = msg_id
        self.execution_count = outcome.execution_count
        self.engine_id = outcome.engine
        found = result or {}
        self.data: dict[str, Any] = found.get("data", {})
        self.metadata: dict[str, Any] = found.get("metadata", {})
        self.source = "execute"

    def __getitem__(self, key: str) -> Any:
        return getattr(self, key)

    def __repr__(self) -> str:
        text = str(self.data.get("text/plain", ""))
        return f"<ExecuteReply[{self.execution_count}]: {text if len(text) < 32 else text[:29] + '...'}>"

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, Any]:
        from secure_ipp.client.outputs import without_active_content

        return without_active_content(self.data)
