"""From what a client says to tasks: checks of the message itself, and the task that it describes.

Pure.  Law: whatever could go wrong with a message is found when it comes, never when its turn comes.
"""

from __future__ import annotations

from secure_ipp.errors import Refused
from secure_ipp.scheduler.board import ClientPeer, Owner
from secure_ipp.scheduler.quota import Charge, body_bytes, check_session
from secure_ipp.scheduler.task import Mode, Task
from secure_ipp.wire import messages

Request = messages.Submit | messages.Direct


def tasks_of(message: Request) -> list[str]:
    return [message.task] if isinstance(message, messages.Submit) else message.tasks


def charge(peer: ClientPeer, owner: Owner, message: Request) -> None:
    """Check a request and charge it to its session.

    Raises:
        Refused: no honest client says such a thing, or has so much unfinished here.
    """
    if isinstance(message, messages.Submit):
        tasks = {message.task}
        named = 0
        if message.targets or message.after or message.follow:
            named = len(message.targets) + len(message.after) + len(message.follow)
    else:
        tasks = set(message.tasks)
        if not tasks or not len(message.tasks) == len(message.engines) == len(tasks):
            raise Refused("a direct message whose tasks and engines do not pair", code="malformed")
        named = 0
    size = body_bytes(message.body, message.sizes)
    charges = peer.charges
    if not charges.keys().isdisjoint(tasks):
        raise Refused("a task id that an unfinished task of this session has", code="malformed")
    made = Charge(peer.account, owner.account, tasks, size, named)
    for task_id in tasks:
        charges[task_id] = made
    check_session(peer.account)


def make_task(peer: ClientPeer, message: Request, task_id: str, now: float) -> Task:
    """A task as its client described it."""
    mode: Mode = "balanced"
    if isinstance(message, messages.Direct):
        mode = "broadcast" if message.broadcast else "direct"
    task = Task(
        peer.user, task_id, message.kind, message.function, message.body, message.sizes, message.submitted,
        message.label, mode, peer, now, task_id, peer.charges.get(task_id),
    )
    if isinstance(message, messages.Submit):
        if message.retries:
            task.retries = message.retries
        if message.targets:
            task.targets = frozenset(message.targets)
        if message.after or message.follow:
            task.after, task.follow = message.after, message.follow
            task.after_flags, task.follow_flags = message.after_flags, message.follow_flags
            if message.timeout:
                task.deadline = now + message.timeout
    return task


def unseen_task(owner: str, task_id: str, now: float) -> Task:
    """A task that an engine holds and whose client has not come back yet."""
    return Task(owner, task_id, "apply", b"", [], [], now, "", "direct", None, now, task_id, adopted=True)
