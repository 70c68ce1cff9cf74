"""What the scheduler knows, in one place: peers, owners' tasks and their ends, engines, functions, what to send.

Pure data and bookkeeping; the desks (clients, engines, agents), `dispatch` and `recovery` decide on it.
Law: everything about tasks is keyed by (owner, task id), so that another's id is like an unknown one (S15).
"""

from __future__ import annotations

import random
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from typing import Any

from secure_ipp import limits
from secure_ipp.scheduler.dependencies import Ended
from secure_ipp.scheduler.engines import Engine, EngineRoom
from secure_ipp.scheduler.functions import Functions
from secure_ipp.scheduler.quota import Account, Charge, IdentityAccount
from secure_ipp.scheduler.records import RecordBook
from secure_ipp.scheduler.task import Task
from secure_ipp.scheduler.tickets import Tickets
from secure_ipp.wire.messages import ErrorInfo, GrantInfo, Message


class ClientPeer:
    """A client's session, as the desks see it.

    Attributes:
        session: opaque; where messages to it go.
        rights: of the live grant; replaced when the registry changes.
        backlog: messages that must wait behind something of the same session (order is promised).
        decided: resent messages that may be placed when all that was resent before them is decided.
        unwanted: tasks that were aborted before it was known what became of them.
        charges: by task, what its unfinished requests take.
        asked: ends of tasks that it asked for and has not heard of; `questions`: of the hub.
    """

    __slots__ = (
        "account", "allowance", "asked", "backlog", "charges", "decided", "forbidden_at", "has_seen", "present",
        "questions", "rights", "session", "token", "unwanted", "user", "waits_for",
    )

    def __init__(self, session: Any, user: str, token: bytes, rights: frozenset[str]) -> None:
        self.session = session
        self.user = user
        self.token = token
        self.rights = rights
        self.present = True
        self.backlog: deque[Any] = deque()
        self.waits_for: bytes | None = None  # digest of a function that it was asked for
        self.decided: list[Any] = []
        self.unwanted: set[str] = set()
        self.account = Account()
        self.allowance = (limits.OWNER_TASKS, limits.OWNER_TASK_BYTES)  # what it keeps here unless it is told otherwise
        self.charges: dict[str, Charge] = {}
        self.asked = 0
        self.questions = 0
        self.forbidden_at = 0.0
        self.has_seen = False  # it has said which head of the journal it has seen

    def discharge(self, task_id: str) -> None:
        """A task that this session sent is over, or was never taken."""
        charge = self.charges.pop(task_id, None)
        if charge is not None:
            charge.release(task_id)


class Owner:
    """One identity's tasks.

    Attributes:
        dismissed: why it may not be here any more; None: it may.
    """

    __slots__ = ("account", "dismissed", "ended", "live", "peers")

    def __init__(self, account: IdentityAccount) -> None:
        self.dismissed: ErrorInfo | None = None
        self.live: dict[str, Task] = {}
        self.ended: OrderedDict[str, Ended] = OrderedDict()
        self.peers: list[ClientPeer] = []
        self.account = account

    def end(self, task_id: str, ended: Ended) -> None:
        self.live.pop(task_id, None)
        known = self.ended
        known[task_id] = ended
        if len(known) > limits.OUTCOMES_PER_OWNER:
            known.popitem(last=False)

    def known(self, task_id: str) -> Ended | None:
        """How it ended; None if it has not; KeyError if there is no such task."""
        if task_id in self.live:
            return None
        return self.ended[task_id]

    @property
    def idle(self) -> bool:
        """Nothing of it is under way."""
        return not (self.live or self.peers)


Send = Callable[[Any, Message, Any], None]


class Board:
    """The state that all desks share.

    Args:
        send: (session, message, bulk frame or None); queues, never blocks.
        to_hub: queues a message for the hub.
        rng: the source of randomness.
    """

    def __init__(
        self, *, send: Send, to_hub: Callable[[Message], None], tickets: Tickets, scheme: str, rng: random.Random,
    ) -> None:
        self.send_to = send
        self.to_hub = to_hub
        self.tickets = tickets
        self.engines = EngineRoom(scheme, rng)
        self.functions = Functions()
        self.owners: dict[str, Owner] = {}
        self.records = RecordBook()
        self.wanted_functions: dict[tuple[str, bytes], set[Engine]] = {}  # engines that wait for one
        self.done = 0
        self.roots: dict[str, str] = {}  # by identity: on whose quotas it draws
        self.accounts: dict[str, IdentityAccount] = {}  # by root

    def owner(self, user: str) -> Owner:
        found = self.owners.get(user)
        if found is None:
            found = self.owners[user] = Owner(self.account(user))
        return found

    def account(self, user: str) -> IdentityAccount:
        """Of an identity, and of all that hang on the same root."""
        root = self.roots.get(user, user)
        found = self.accounts.get(root)
        if found is None:
            found = self.accounts[root] = IdentityAccount()
        return found

    def allow(self, grants: Mapping[str, GrantInfo]) -> None:
        """These are the grants from now on: their quotas, and on which of them the derived ones draw."""
        for user, grant in grants.items():
            root = grant
            while root.parent in grants:
                root = grants[root.parent]
            self.roots[user] = root.id
            if root is grant:
                self.account(user).allow(grant)
        for user in [user for user in self.roots if user not in grants and user not in self.owners]:
            del self.roots[user]
        used = {self.roots.get(user, user) for user in (*grants, *self.owners)}
        for unused in [name for name, known in self.accounts.items() if name not in used and not known.sessions]:
            del self.accounts[unused]

    def send(self, peer: ClientPeer | None, message: Message, frame: Any = None) -> None:
        """To a client, if it is still there."""
        if peer is not None and peer.present:
            self.send_to(peer.session, message, frame)

    def tell_everyone(self, message: Message) -> None:
        for owner in self.owners.values():
            for peer in owner.peers:
                self.send(peer, message)
