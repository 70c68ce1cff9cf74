"""Results and metadata by task id.

Choice: a client keeps no results for its user.  What an AsyncResult that is still held refers to is found here;
when the last one is dropped, its results are freed, so a million tasks leave nothing behind.  `Client.get_result`
asks the cluster for those, as long as it keeps them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from secure_ipp.client.errors import UnknownTask
from secure_ipp.client.metadata import Metadata, metadata_of
from secure_ipp.client.session import Session
from secure_ipp.client.tasks import Task


class Results(Mapping[str, Any]):
    """Values (or errors) of the tasks that have ended and are still held."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def _task(self, task_id: str) -> Task | None:
        return self._session.receiver.finished.get(task_id)

    def __getitem__(self, task_id: str) -> Any:
        task = self._task(task_id)
        if task is None:
            raise UnknownTask(f"no result of {task_id} is held here")
        return task.result(task.call.trust or self._session.trust)

    def __contains__(self, task_id: object) -> bool:
        return isinstance(task_id, str) and self._task(task_id) is not None

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._session.receiver.finished))

    def __len__(self) -> int:
        return len(self._session.receiver.finished)


class AllMetadata(Mapping[str, Metadata]):
    """Metadata of the tasks that are unfinished, or have ended and are still held."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def __getitem__(self, task_id: str) -> Metadata:
        task = self._session.task(task_id)
        if task is None:
            raise UnknownTask(f"nothing of {task_id} is held here")
        return metadata_of(task, as_sent=(task.call.trust or self._session.trust) == "any")

    def __iter__(self) -> Iterator[str]:
        return iter([*list(self._session.receiver.ledger.open), *list(self._session.receiver.finished)])

    def __len__(self) -> int:
        return len(self._session.receiver.ledger.open) + len(self._session.receiver.finished)
