"""Ends what an identity has here when its key was revoked or has expired (S17).

Pure.  Laws: what waits is dropped at once, what an engine holds is taken back or interrupted by its number, so that
nobody else's task is; whatever it still brings is dropped, never delivered; nothing of anybody else's is touched.
"""

from __future__ import annotations

from typing import Any

from secure_ipp import limits
from secure_ipp.scheduler.board import Board
from secure_ipp.scheduler.dispatch import Dispatch
from secure_ipp.scheduler.outcomes import plain_error
from secure_ipp.scheduler.task import TaskState
from secure_ipp.wire import messages

REVOKED = plain_error("Revoked", "your key was revoked")
EXPIRED = plain_error("KeyExpired", "your key has expired")


class Dismissal:
    """Dismisses identities, and lets them back."""

    def __init__(self, board: Board, dispatch: Dispatch) -> None:
        self._board = board
        self._dispatch = dispatch

    def dismiss(self, user: str, why: messages.ErrorInfo, now: float) -> None:
        """End all its tasks with this error; said again, it ends what has turned up since."""
        board = self._board
        owner = board.owners.get(user)
        if owner is None:
            return
        owner.dismissed = why
        asked: dict[Any, list[int]] = {}
        for task in list(owner.live.values()):
            if task.state in (TaskState.ACCEPTED, TaskState.SUBMITTED):
                self._dispatch.end(task, "error", now, error=why)
            elif task.state in (TaskState.ASSIGNED, TaskState.STARTED) and task.withdrawn is not why:
                task.aborting, task.withdrawn = True, why
                asked.setdefault(task.engine, []).append(task.number)
        for engine, numbers in asked.items():
            for start in range(0, len(numbers), limits.TASKS_NAMED):
                part = numbers[start : start + limits.TASKS_NAMED]
                board.send_to(engine.session, messages.Cancel(part, interrupt=True), None)
        self._forget(user)

    def _forget(self, user: str) -> None:
        """Its functions and its large results, here and at the engines."""
        board = self._board
        board.functions.forget(user)
        for key in [key for key in board.wanted_functions if key[0] == user]:
            for engine in board.wanted_functions.pop(key):
                engine.wanted.discard(key)
        self._dispatch.relay.owner_gone(user)
        for engine in board.engines:
            known = [key for key in engine.functions if key[0] == user]
            for key in known:
                del engine.functions[key]
            if known:
                board.send_to(engine.session, messages.Forget(user), None)

    def readmit(self, user: str) -> None:
        """Its grant is in force again, as when it was renewed."""
        owner = self._board.owners.get(user)
        if owner is not None:
            owner.dismissed = None
