"""Who may say what: role x message x right, in one table (S14).  What does not stand here is refused.

Roles are given by the gate: `client`; `agent` (holds a join key); `engine` (holds a session key); `scheduler` (the hub
link's other end); `probe` (the door's test of itself).  `ALWAYS` marks what touches the sender's own things only; whose
a task is, is checked where tasks are kept (S15, S16).  `PurgeEveryone` is `PurgeRecords` with `everyone` set.
"""

from __future__ import annotations

from collections.abc import Collection

from secure_ipp.errors import Refused

ALWAYS = ""

_TABLE: dict[str, dict[str, str]] = {
    "client": {
        "Submit": "task",
        "Direct": "direct",
        "Signal": "control",
        "Shutdown": "control",
        "PurgeEveryone": "control",
        "Function": ALWAYS,
        "Chunk": ALWAYS,
        "Credit": ALWAYS,
        "Pull": ALWAYS,
        "Received": ALWAYS,
        "Abort": ALWAYS,
        "Attach": ALWAYS,
        "QueueStatus": ALWAYS,
        "Ask": ALWAYS,
        "Seen": ALWAYS,
        "ResultStatus": ALWAYS,
        "History": ALWAYS,
        "PurgeRecords": ALWAYS,
        "Whois": ALWAYS,
        "OwnGrant": ALWAYS,
        "Attenuate": ALWAYS,  # of what the asker holds itself, less `admin` (S32)
        "Goodbye": ALWAYS,
    },
    "agent": {
        "Join": "join",
        "Announce": "join",
        "EngineStarted": "join",
        "EngineDied": "join",
        "Goodbye": ALWAYS,
    },
    "engine": {
        "Report": ALWAYS,
        "Result": ALWAYS,
        "Started": ALWAYS,
        "EngineOutput": ALWAYS,
        "EngineDisplay": ALWAYS,
        "Cancelled": ALWAYS,
        "EngineNeedsFunction": ALWAYS,
        "EngineChunk": ALWAYS,
        "EnginePull": ALWAYS,
        "EngineCredit": ALWAYS,
        "Goodbye": ALWAYS,
    },
    "scheduler": {
        "GrantsInForce": ALWAYS,
        "JoinAsked": ALWAYS,
        "HubRoster": ALWAYS,
        "EngineJoined": ALWAYS,
        "EngineLeft": ALWAYS,
        "Records": ALWAYS,
        "AuditEvent": ALWAYS,
        "Forward": ALWAYS,
        "Lookup": ALWAYS,
        "SchedulerStatus": ALWAYS,
        "StopController": ALWAYS,
        "SeenHead": ALWAYS,
        "Goodbye": ALWAYS,
    },
    "probe": {},
}

RIGHTS_OF_MESSAGE: dict[tuple[str, str], str | None] = {
    (role, message): right or None for role, entries in _TABLE.items() for message, right in entries.items()
}


def check(role: str, rights: Collection[str], message_name: str) -> None:
    """Return if a peer of this role, with these rights, may say this.

    Args:
        role: from the gate.
        rights: those of the live grant, now.
        message_name: the message's class name.

    Raises:
        Refused: the table does not allow it.
    """
    right = _TABLE.get(role, {}).get(message_name)
    if right is None:
        raise Refused(f"a peer of the role {role!r} does not send {message_name}", code="not-allowed")
    if right is not ALWAYS and right not in rights:
        raise Refused(
            f"your key lacks the right {right!r}, which {message_name} needs",
            "ask the cluster's owner for a file with that right, or use what yours allows "
            f"({', '.join(sorted(rights)) or 'nothing'})",
            code="no-right",
        )
