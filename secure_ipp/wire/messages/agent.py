"""Between an agent and the scheduler."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from secure_ipp import limits
from secure_ipp.wire.messages.engine import Dismiss
from secure_ipp.wire.messages.fields import Count, Message, PublicKeyBytes, Text, UserId
from secure_ipp.wire.messages.shared import DoorKeys, Goodbye

# --- agent -> scheduler -------------------------------------------------------------------------------


class EngineDeath(Message, frozen=True):
    uuid: UserId
    started: Count  # highest assignment number it had started
    status: Annotated[int, Meta(ge=-64, le=255)]  # exit code, or minus the signal
    reason: Text = ""


class Join(Message, frozen=True, tag="join"):
    """First message of each session of an agent."""

    host: Text
    pid: Count
    dead: Annotated[list[EngineDeath], Meta(max_length=limits.TARGETS)]  # died while the scheduler was away
    instance: Annotated[bytes, Meta(max_length=32)] = b""  # random; the same as long as this agent lives


class Announce(Message, frozen=True, tag="announce"):
    """Public halves of the session keys of engines that this agent runs or is about to fork."""

    keys: Annotated[list[PublicKeyBytes], Meta(max_length=limits.TARGETS)]


class EngineStarted(Message, frozen=True, tag="engine_started"):
    uuid: UserId
    pid: Count


class EngineDied(Message, frozen=True, tag="engine_died"):
    death: EngineDeath


FromAgent = Join | Announce | EngineStarted | EngineDied | Goodbye


# --- scheduler -> agent -------------------------------------------------------------------------------


class Announced(Message, frozen=True, tag="announced"):
    """Accepted keys, each with the id its engine will be known by; a refused key has an empty id and a reason."""

    key: PublicKeyBytes
    uuid: UserId
    reason: Text = ""


class SignalEngine(Message, frozen=True, tag="signal_engine"):
    uuid: UserId
    signum: Annotated[int, Meta(ge=1, le=64)]


class StopEngine(Message, frozen=True, tag="stop_engine"):
    uuid: UserId
    restart: bool = False


ToAgent = Announced | SignalEngine | StopEngine | Dismiss | DoorKeys | Goodbye
