"""The engines of an agent: announced before they start, missed when they die, replaced when asked."""

from __future__ import annotations

import pytest

from secure_ipp.engine.fleet import Complain, Fleet, Member, Remark, Say, SignalProcess, StartEngine, State, StopProcess
from secure_ipp.keys.curve import KeyPair
from secure_ipp.wire import messages


def fleet(engines: int) -> Fleet:
    made = Fleet(lambda dead: messages.Join("host", 1, dead), KeyPair.generate)
    made.begin(engines)
    return made


def up(engines: int) -> tuple[Fleet, list[Member]]:
    """A fleet whose engines run."""
    made = fleet(engines)
    made.welcome(False)
    for number, member in enumerate(made.members):
        assert made.announced(messages.Announced(member.keys.public.raw, f"e{number}")) == [StartEngine(member)]
        assert made.running(f"e{number}", 100 + number) == [Say(messages.EngineStarted(f"e{number}", 100 + number))]
    return made, made.members


def test_nothing_starts_before_its_key_is_acknowledged() -> None:
    made = fleet(2)
    join, announce = made.welcome(False)
    assert isinstance(join, Say) and isinstance(join.message, messages.Join)
    assert isinstance(announce, Say) and isinstance(announce.message, messages.Announce)
    assert announce.message.keys == [member.keys.public.raw for member in made.members]
    assert all(member.state is State.ANNOUNCED for member in made.members)
    assert made.announced(messages.Announced(b"x" * 32, "e9")) == []


def test_refused_key_is_said_and_dropped() -> None:
    made = fleet(1)
    (member,) = made.members
    assert made.announced(messages.Announced(member.keys.public.raw, "", "full")) == [Complain("full")]
    assert made.empty


def test_death_is_kept_until_heard() -> None:
    made, _ = up(2)
    (said,) = made.exited("e0", -9, 7)
    assert isinstance(said, Say) and isinstance(said.message, messages.EngineDied)
    death = said.message.death
    assert (death.uuid, death.started, death.status) == ("e0", 7, -9)
    assert made.welcome(True) == []
    join, announce = made.welcome(False)
    assert isinstance(join, Say) and join.message.dead == [death]  # type: ignore[attr-defined]
    assert isinstance(announce, Say) and len(announce.message.keys) == 1  # type: ignore[attr-defined]
    made.heard_of_death("e0")
    join, _ = made.welcome(False)
    assert isinstance(join, Say) and join.message.dead == []  # type: ignore[attr-defined]
    assert made.crashed == 1


def test_restart_gives_a_fresh_key() -> None:
    made, (member,) = up(1)
    assert made.stop(messages.StopEngine("e0", True)) == [StopProcess(member)]
    assert made.stop(messages.StopEngine("e0", True)) == []
    _, announce = made.exited("e0", -15, 0)
    assert isinstance(announce, Say) and isinstance(announce.message, messages.Announce)
    assert announce.message.keys != [member.keys.public.raw]
    assert made.crashed == 0 and not made.empty


@pytest.mark.parametrize(("uuid", "reason"), [("other", ""), ("", "this key was known before")])
def test_an_engine_that_is_not_known_any_more_is_replaced(uuid: str, reason: str) -> None:
    made, (member,) = up(1)
    key = member.keys.public.raw
    assert made.announced(messages.Announced(key, "e0")) == []
    remark, *said, stop = made.announced(messages.Announced(key, uuid, reason))
    assert isinstance(remark, Remark) and (reason or "does not remember") in remark.text
    assert stop == StopProcess(member)
    assert [say.message.death.uuid for say in said] == ([uuid] if uuid else [])  # type: ignore[union-attr]
    assert made.announced(messages.Announced(key, uuid, reason)) == []
    (announce,) = made.exited("e0", -15, 3)  # its death is nobody's business there
    assert isinstance(announce, Say) and announce.message.keys != [key]  # type: ignore[attr-defined]
    join, _ = made.welcome(False)
    assert isinstance(join, Say) and join.message.dead == []  # type: ignore[attr-defined]
    assert made.crashed == 0


def test_an_engine_that_is_not_known_any_more_is_not_replaced_at_the_end() -> None:
    made, (member,) = up(1)
    made.stopping = True
    assert made.announced(messages.Announced(member.keys.public.raw, "", "known before"))[-1] == StopProcess(member)
    assert made.exited("e0", -15, 0) == []
    assert made.empty


def test_signals_go_to_running_engines_only() -> None:
    made, (member,) = up(1)
    assert made.signal(messages.SignalEngine("e0", 2)) == [SignalProcess(member, 2)]
    assert made.signal(messages.SignalEngine("nobody", 2)) == []
    made.stop(messages.StopEngine("e0"))
    assert made.signal(messages.SignalEngine("e0", 2)) == []


def test_stop_all_restarts_nobody() -> None:
    made, _ = up(2)
    made.stop(messages.StopEngine("e0", True))
    assert len(made.stop_all()) == 1
    for uuid in ("e0", "e1"):
        assert len(made.exited(uuid, -15, 0)) == 1
    assert made.empty
    assert made.exited("e0", 0, 0) == []


def test_an_engine_ends_once() -> None:
    member = Member(KeyPair.generate())
    member.to(State.ENDED)
    with pytest.raises(RuntimeError):
        member.to(State.RUNNING)
