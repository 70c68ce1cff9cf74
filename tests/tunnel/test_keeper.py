"""The keeper and its users, with logins that go nowhere."""

from __future__ import annotations

import errno
import os
import socket
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secure_ipp import limits
from secure_ipp.errors import EnvironmentProblem, ProtocolError
from secure_ipp.keys.locks import Lock
from secure_ipp.tunnel import lease as leases
from secure_ipp.tunnel import listing, places
from secure_ipp.tunnel.failures import (
    ForwardingRefused,
    HostKeyChanged,
    LoginRefused,
    NoRoute,
    TunnelLost,
)
from secure_ipp.tunnel.lease import Lease
from secure_ipp.tunnel.messages import FromKeeper, FromUser, Lines, Look, Question, Reply, State, Use
from secure_ipp.tunnel.spec import Spec
from tests.running import wait_until
from tests.tunnel.fake import Keepers, Script

SPEC = Spec(route="ada@host", doors=["tcp://127.0.0.1:5000"], backend="openssh", cluster="lab")


class Knows:
    """A prompter that gives these answers."""

    def __init__(self, *answers: str) -> None:
        self.answers, self.prompts = list(answers), []  # type: ignore[var-annotated]

    def answer(self, prompt: str) -> str | None:
        self.prompts.append(prompt)
        return self.answers.pop(0) if self.answers else None


@pytest.fixture
def script() -> Script:
    return Script()


@pytest.fixture
def keepers(home: Path, script: Script) -> Iterator[Keepers]:
    with Keepers(script) as them:
        yield them


def opened(who: str = "a client", prompter: Any = None, seconds: float = 10.0, spec: Spec = SPEC) -> Lease:
    lease = Lease(spec, who, prompter)
    lease.open(seconds)
    return lease


def test_users_share_one_login_and_the_last_one_ends_it(keepers: Keepers, script: Script) -> None:
    first, second = opened("one"), opened("two")
    assert first.doors == second.doors
    assert len(script.orders) == 1
    state = listing.look(SPEC.name)
    assert state is not None and [user.split()[0] for user in state.users] == ["one", "two"]
    first.release()
    wait_until(lambda: len(listing.look(SPEC.name).users) == 1)  # type: ignore[union-attr]
    assert script.open == 1
    second.release()
    assert keepers.gone()
    assert script.open == 0
    assert listing.tunnels() == {}
    assert [path.name for path in places.root().iterdir()] == [f"{SPEC.name}.lock"]


def test_other_wishes_are_other_tunnels(keepers: Keepers, script: Script) -> None:
    import msgspec

    one, two = opened(), opened(spec=msgspec.structs.replace(SPEC, post_quantum=True))
    assert one.doors != two.doors
    assert len(script.orders) == 2
    one.release(), two.release()


def test_the_local_end_is_out_of_others_reach(keepers: Keepers) -> None:
    lease = opened()
    directory = places.root() / SPEC.name
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert stat.S_IMODE((directory / places.CONTROL).stat().st_mode) == 0o600
    lease.release()


def test_a_lost_tunnel_is_opened_again_with_the_same_key_pinned(keepers: Keepers, script: Script) -> None:
    lease = opened()
    script.drop()
    wait_until(lambda: len(script.orders) == 2)
    wait_until(lambda: lease.state.condition == "up" and lease.state.drops == 1)
    assert script.orders[0].pinned == ""
    assert script.orders[1].pinned == script.host_key
    lease.release()


def test_it_is_tried_again_as_long_as_that_may_help(keepers: Keepers, script: Script) -> None:
    lease = opened()
    failures = iter([NoRoute("no"), NoRoute("no")])

    def fail(*_: object) -> None:
        for error in failures:
            raise error

    script.before = fail
    script.drop()
    wait_until(lambda: len(script.orders) == 4)
    wait_until(lambda: lease.state.condition == "up" and lease.state.drops == 1)
    lease.release()


@pytest.mark.parametrize("error", [HostKeyChanged("another key"), LoginRefused("no more")])
def test_s23_what_another_try_cannot_mend_ends_it(keepers: Keepers, script: Script, error: Exception) -> None:
    lease = opened()

    def fail(*_: object) -> None:
        raise error

    script.before = fail
    script.drop()
    wait_until(lambda: lease.state.condition == "failed")
    assert keepers.gone()
    assert len(script.orders) == 2
    assert type(lease.explain(TimeoutError())) is type(error)  # type: ignore[arg-type]
    assert len(keepers.all) == 1  # no other keeper took its place
    lease.release()


def test_a_user_of_a_tunnel_that_has_failed_rests(keepers: Keepers, script: Script) -> None:
    lease = opened()

    def fail(*_: object) -> None:
        raise HostKeyChanged("another key")

    script.before = fail
    script.drop()
    assert keepers.gone()
    assert lease._thread is not None
    lease._thread.join(10)
    assert not lease._thread.is_alive() and lease.state.condition == "failed"
    lease.release()


@pytest.mark.parametrize("error", [NoRoute("nobody there", "look"), LoginRefused("who are you?", "a key")])
def test_a_first_login_that_fails_is_the_error_of_all_who_wait(
    keepers: Keepers, script: Script, error: Exception
) -> None:
    def fail(*_: object) -> None:
        raise error

    script.before = fail
    with pytest.raises(type(error)) as caught:
        opened()
    assert (caught.value.message, caught.value.advice) == (error.message, error.advice)  # type: ignore[attr-defined]
    assert keepers.gone()
    assert listing.tunnels() == {}


def test_nobody_waits_longer_than_the_time_allowed(keepers: Keepers, script: Script) -> None:
    import threading

    go_on = threading.Event()
    script.before = lambda order, asker: bool(go_on.wait(20)) and None  # type: ignore[func-returns-value]
    began = time.monotonic()
    with pytest.raises(NoRoute, match="within the time"):
        opened(seconds=0.3)
    assert time.monotonic() - began < 5
    go_on.set()
    assert keepers.gone()


def test_a_question_reaches_a_user_and_its_answer_the_login(keepers: Keepers, script: Script) -> None:
    answers = []
    script.before = lambda order, asker: answers.append(asker.ask("ada@host's password: "))
    knows = Knows("sesame")
    lease = opened(prompter=knows)
    assert answers == ["sesame"]
    assert knows.prompts == ["ada@host's password: "]
    lease.release()


def test_a_tunnel_that_falls_right_after_a_password_login_is_opened_again_with_it(
    keepers: Keepers, script: Script
) -> None:
    answers = []
    script.before = lambda order, asker: answers.append(asker.ask("ada@host's password: "))
    knows = Knows("sesame")
    lease = opened(prompter=knows)
    script.drop()
    wait_until(lambda: lease.state.condition == "up" and lease.state.drops == 1)
    assert answers == ["sesame", "sesame"] and len(knows.prompts) == 1
    lease.release()


def test_the_time_to_type_does_not_count(keepers: Keepers, script: Script) -> None:
    class Slow(Knows):
        def answer(self, prompt: str) -> str | None:
            time.sleep(1.0)  # somebody types
            return super().answer(prompt)

    script.before = lambda order, asker: asker.ask("password: ") and None
    lease = opened(prompter=Slow("sesame"), seconds=0.8)
    assert lease.state.condition == "up"
    lease.release()


def test_the_time_to_type_does_not_count_in_the_login_either(keepers: Keepers, script: Script) -> None:
    lease = opened()
    script.drop()
    wait_until(lambda: len(script.seconds) == 2)
    first, again = script.seconds
    assert first > limits.TUNNEL_ANSWER_SECONDS > again > limits.TUNNEL_CONNECT_SECONDS - 10
    lease.release()


def test_where_nobody_can_be_asked_the_login_hears_so_at_once(keepers: Keepers, script: Script) -> None:
    answers = []
    script.before = lambda order, asker: answers.append(asker.ask("password: "))
    lease = opened(prompter=None)
    assert answers == [None]
    lease.release()


def test_held_it_stays_without_users_until_it_is_closed(keepers: Keepers, script: Script) -> None:
    lease = opened()
    lease.hold(held=True)
    lease.release()
    state = wait_until(lambda: (found := listing.look(SPEC.name)) and not found.users and found)
    assert state.held and script.open == 1
    closed = listing.close(SPEC.name, now=False)
    assert closed is not None and not closed.users
    assert keepers.gone()


def test_closed_while_in_use_it_waits_for_its_users_or_not(keepers: Keepers, script: Script) -> None:
    lease = opened()
    listing.close(SPEC.name, now=False)
    assert script.open == 1
    listing.close(SPEC.name, now=True)
    assert keepers.gone()
    wait_until(lambda: lease.state.condition == "failed")
    assert isinstance(lease.explain(TimeoutError()), TunnelLost)  # type: ignore[arg-type]
    lease.release()


def test_a_keeper_that_dies_is_followed_by_another_under_the_same_addresses(
    keepers: Keepers, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = opened()
    doors, keeper = lease.doors, keepers.all[0]
    for peer in list(keeper._peers.values()):  # what a death looks like from outside
        peer.connection.shutdown(socket.SHUT_RDWR)
    keeper._listener.close()
    wait_until(lambda: len(keepers.all) == 2)
    wait_until(lambda: lease.state.condition == "up" and lease._connection is not None)
    assert lease.doors == doors
    lease.release()


def test_a_refusal_of_one_address_is_no_reason_to_give_up_the_others(keepers: Keepers, script: Script) -> None:
    import msgspec

    script.refused = "administratively prohibited: open failed"
    doors = ["tcp://127.0.0.1:5000", "tcp://10.0.0.1:5000"]
    lease = opened(spec=msgspec.structs.replace(SPEC, doors=doors))
    wait_until(lambda: lease.state.refusal)
    assert lease.hopeless() is None
    assert isinstance(lease.explain(TimeoutError()), ForwardingRefused)  # type: ignore[arg-type]
    lease.release()


def test_a_forked_child_has_no_part_in_it(keepers: Keepers, script: Script) -> None:
    lease = opened()
    assert lease._connection is not None
    number = lease._connection.fileno()
    told, telling = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            found = os.readlink(f"/proc/self/fd/{number}") if os.path.exists(f"/proc/self/fd/{number}") else "closed"
            os.write(telling, found.encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert os.read(told, 100) == b"closed"
    os.close(told), os.close(telling)
    assert script.open == 1 and lease._connection is not None
    lease.release()


def test_there_may_be_more_users_than_descriptors(keepers: Keepers, monkeypatch: pytest.MonkeyPatch) -> None:
    lease = opened()
    accept, short = keepers.all[0]._listener.accept, [True]

    class Listener:
        def accept(self) -> object:
            if short:
                short.clear()
                raise OSError(errno.EMFILE, "too many open files")
            return accept()

    monkeypatch.setattr(keepers.all[0], "_listener", Listener())
    second = opened("another")
    assert not short and second.state.condition == "up"
    monkeypatch.undo()
    second.release(), lease.release()


def test_a_list_of_all_users_with_the_longest_names_is_a_message() -> None:
    import msgspec

    who = f"agent of {'x' * 64} (process 4194304)"
    line = msgspec.json.encode(State("up", users=[who] * limits.TUNNEL_USERS, spec=SPEC)) + b"\n"
    assert Lines(FromKeeper).take(line)


def test_who_is_late_waits_no_longer_than_its_time_for_another_that_opens_it(home: Path) -> None:
    began = time.monotonic()
    with Lock(places.root() / f"{SPEC.name}.lock"), pytest.raises(TunnelLost, match="another process"):
        opened(seconds=0.3)
    assert time.monotonic() - began < 5


def test_what_cannot_be_cleared_is_said(home: Path) -> None:
    (places.root() / SPEC.name / "planted").mkdir(parents=True, mode=0o700)
    with pytest.raises(EnvironmentProblem, match="cannot be cleared"):
        opened()
    assert listing.tunnels() == {}


def test_a_refusal_of_the_ssh_server_is_told_as_what_it_is(keepers: Keepers, script: Script) -> None:
    script.refused = "administratively prohibited: open failed"
    lease = opened()
    assert isinstance(wait_until(lease.hopeless), ForwardingRefused)
    lease.release()


def test_garbage_at_the_control_socket_disturbs_nobody(keepers: Keepers, script: Script) -> None:
    lease = opened()
    endless = b"x" * (limits.TUNNEL_LINE_BYTES + 2)
    for junk in (b"\xff\n", b"{}\n", b'{"do":"close","x":1}\n', b'{"do":"use"}\n', endless):
        connection = leases.reach_keeper(places.root() / SPEC.name)
        assert connection is not None
        with connection:
            connection.sendall(junk)
            connection.shutdown(socket.SHUT_WR)
            assert connection.recv(100) == b""
    assert lease.state.condition == "up" and script.open == 1
    lease.release()


@given(st.binary(max_size=200))
def test_unverified_bytes_are_lines_or_an_error(data: bytes) -> None:
    try:
        found = Lines(FromUser).take(data)
    except ProtocolError:
        return
    assert all(isinstance(one, FromUser) for one in found)


@pytest.mark.parametrize("message", [
    Use("x", 1), Reply(1, None), Look(), Question(3, "p"), State("up", users=["a"], spec=SPEC),
])
def test_messages_travel_whole_however_they_are_cut(message: Any) -> None:
    import msgspec

    lines = Lines(FromUser if isinstance(message, FromUser) else FromKeeper)
    found = []
    for byte in msgspec.json.encode(message) + b"\n":
        found += lines.take(bytes([byte]))
    assert found == [message]


def test_s11_a_reply_shows_nothing() -> None:
    assert "sesame" not in repr(Reply(1, "sesame")) + str(Reply(1, "sesame"))


def test_a_keeper_that_was_killed_leaves_nothing_for_long(home: Path) -> None:
    directory = places.root() / "0123456789ab"
    directory.mkdir(mode=0o700)
    (directory / places.CONTROL).touch()
    (directory / "log").touch()
    assert listing.tunnels() == {}
    assert not directory.exists()
    assert os.path.exists(places.root())
