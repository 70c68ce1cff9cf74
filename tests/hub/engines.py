"""Engine records and grants for tests."""

from __future__ import annotations

from secure_ipp.hub.grants import LiveGrants
from secure_ipp.wire.messages import EngineInfo, EngineRecord, GrantInfo

ALL_RIGHTS = ("task", "direct", "observe", "control", "admin")


def engine(number: int, *, host: str = "node") -> EngineRecord:
    info = EngineInfo(id=number, uuid=f"engine-{number}", host=host, pid=100 + number)
    return EngineRecord(info=info, key=bytes([number % 256]) * 32, agent="join-key")


def client(user: str, *rights: str, expires: float = 0.0) -> GrantInfo:
    return GrantInfo(
        id=user, name=user, role="client", key=user.encode().ljust(32, b"."), rights=list(rights), expires=expires
    )


def join_key(user: str = "join-key") -> GrantInfo:
    return GrantInfo(
        id=user, name="engines", role="agent", key=user.encode().ljust(32, b"."), rights=["join"], expires=0.0
    )


def live(*grants: GrantInfo, version: int = 1) -> LiveGrants:
    return LiveGrants(version, {grant.id: grant for grant in grants})
