"""What unfinished requests may take of the scheduler (S18).

Pure.  Laws: a request is charged when it comes and until the last of its tasks has ended, wherever it stands meanwhile;
a session beyond what an honest client keeps here is cut, an identity beyond its bound gets errors.
"""

from __future__ import annotations

from secure_ipp import limits
from secure_ipp.errors import Refused

_NAMED_BYTES = 128  # what an engine or a task that a request names takes


class Account:
    """What is charged to one session, or to one identity."""

    __slots__ = ("bytes", "tasks")

    def __init__(self) -> None:
        self.tasks = 0
        self.bytes = 0


class Charge:
    """One request's.

    Args:
        tasks: ids of its tasks; the charge takes the set.
        body_bytes: inline bytes, which its client counts, too.
        named: how many engines and tasks it names besides its own.
    """

    __slots__ = ("_bytes", "_identity", "_identity_bytes", "_session", "left")

    def __init__(self, session: Account, identity: Account, tasks: set[str], body_bytes: int, named: int) -> None:
        self._session = session
        self._identity = identity
        self._bytes = body_bytes
        self._identity_bytes = body_bytes + named * _NAMED_BYTES
        self.left = tasks
        session.tasks += len(tasks)
        session.bytes += body_bytes
        identity.tasks += len(tasks)
        identity.bytes += self._identity_bytes

    def release(self, task_id: str) -> None:
        """A task of it has ended; said again, it changes nothing."""
        left = self.left
        if task_id not in left:
            return
        left.remove(task_id)
        self._session.tasks -= 1
        self._identity.tasks -= 1
        if not left:
            self._session.bytes -= self._bytes
            self._identity.bytes -= self._identity_bytes


def check_session(account: Account) -> None:
    """Raise `Refused` if a session has more here than an honest client keeps here."""
    # twice: a client may count a task as ended a little before it has ended here
    if account.tasks > 2 * limits.OWNER_TASKS or account.bytes > 2 * limits.OWNER_TASK_BYTES:
        raise Refused("more unfinished tasks than a session may have", code="quota")


def too_much(account: Account) -> bool:
    """Whether an identity has all the unfinished work that it may have."""
    return account.tasks > limits.IDENTITY_TASKS or account.bytes > limits.IDENTITY_TASK_BYTES


def body_bytes(body: list[bytes], sizes: list[int]) -> int:
    """Check the body of a request or a result; returns its inline bytes.

    Raises:
        Refused: inline and streamed at once, or larger than may be.
    """
    size = 0
    for part in body:
        size += len(part)
    if size > limits.INLINE_BYTES or (sizes and (body or not 0 < sum(sizes) <= limits.BODY_BYTES)):
        raise Refused("a body that is not as it must be", code="malformed")
    return size
