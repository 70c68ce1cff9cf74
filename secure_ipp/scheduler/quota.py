"""What an identity may take of the scheduler: sessions, unfinished tasks, their bytes, messages (S18).

Pure.  Laws: a request is charged when it comes and until the last of its tasks has ended, wherever it stands meanwhile;
a session beyond what an honest client keeps here is cut, an identity beyond its quota gets errors that name it; whoever
sends faster than it may is left unacknowledged until its mean is met; what was handed on draws on the quota of the
grant at the root, so that nobody grows by handing on (S32).
"""

from __future__ import annotations

from secure_ipp import limits
from secure_ipp.errors import Refused
from secure_ipp.wire.messages import GrantInfo

_NAMED_BYTES = 128  # what an engine or a task that a request names takes


class Account:
    """What is charged to one session, or to one identity."""

    __slots__ = ("bytes", "tasks")

    def __init__(self) -> None:
        self.tasks = 0
        self.bytes = 0


class Meter:
    """Messages a second: a bucket of one second's worth, which may go below empty.

    Args:
        rate: tokens a second.
    """

    __slots__ = ("_at", "_tokens", "rate")

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self._tokens = rate
        self._at = float("-inf")

    def take(self, count: int, now: float) -> float:
        """So many messages have come (0: none, only look); seconds until the mean is met again, 0 if it is.

        Args:
            now: monotonic seconds.
        """
        rate = self.rate
        self._tokens = min(rate, self._tokens + (now - self._at) * rate) - count
        self._at = now
        return 0.0 if self._tokens >= 0 else -self._tokens / rate


class IdentityAccount(Account):
    """What all sessions of an identity, and of whomever it handed on to, take together, and may.

    Attributes:
        sessions: that are open now; `most_sessions` is for the caller to compare.
    """

    __slots__ = ("_most_bytes", "_most_sessions", "_most_tasks", "hosts", "meter", "sessions")

    def __init__(self) -> None:
        super().__init__()
        self.sessions = 0
        self.hosts = False  # it is a join key's
        self._most_sessions = self._most_tasks = self._most_bytes = 0  # 0: the default
        self.meter = Meter(limits.IDENTITY_MESSAGES)

    def allow(self, grant: GrantInfo) -> None:
        """These are its quotas from now on."""
        self.hosts = grant.role == "agent"
        self._most_sessions, self._most_tasks, self._most_bytes = grant.sessions, grant.tasks, grant.bytes
        self.meter.rate = float(grant.messages or limits.IDENTITY_MESSAGES)

    @property
    def most_sessions(self) -> int:
        """Connections at a time."""
        return self._most_sessions or (limits.HOSTS_PER_JOIN_KEY if self.hosts else limits.IDENTITY_SESSIONS)

    @property
    def most_bytes(self) -> int:
        """Held for it."""
        return self._most_bytes or limits.IDENTITY_TASK_BYTES

    @property
    def allowance(self) -> tuple[int, int]:
        """Unfinished tasks, and their inline bytes, that one session of it should keep here."""
        return (
            min(self._most_tasks or limits.OWNER_TASKS, limits.OWNER_TASKS),
            min(self._most_bytes or limits.OWNER_TASK_BYTES, limits.OWNER_TASK_BYTES),
        )

    def excess(self) -> str:
        """The quota that is overdrawn, in words; empty: none."""
        if self.tasks > (self._most_tasks or limits.IDENTITY_TASKS):
            most = self._most_tasks or limits.IDENTITY_TASKS
            return f"tasks: this identity has {most} unfinished tasks already, and may have no more"
        if self.bytes > self.most_bytes:
            return f"bytes: this identity has {self.most_bytes} bytes of unfinished work already, and may have no more"
        return ""


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
