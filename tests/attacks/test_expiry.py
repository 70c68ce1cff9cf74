"""Keys that expire, and clocks that lie (S17)."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secure_ipp.access.trusted_time import TrustedTime
from secure_ipp.cluster.registry_change import apply
from secure_ipp.errors import KeyExpired
from secure_ipp.hub.clock import read_clocks
from secure_ipp.hub.clock_mark import Mark
from secure_ipp.keys.capability import Capability, sign_capability
from secure_ipp.keys.cluster_keys import load_issuer, load_server
from secure_ipp.keys.config import load_config
from secure_ipp.keys.curve import KeyPair
from secure_ipp.keys.grants import sign_grant
from secure_ipp.keys.places import ClusterPlace
from secure_ipp.keys.private_files import write_private
from secure_ipp.wire import messages
from tests.attacks.rogue import Rogue, Trail
from tests.running import RunningCluster, wait_until
from tests.scheduler.world import HOST, World, grant

HOUR = 3600.0


# --- the scheduler's decisions ----------------------------------------------------------------------------------


def expiring(user: str, expires: float) -> messages.GrantInfo:
    return msgspec.structs.replace(grant(user), expires=expires)


def test_s17_at_the_time_its_tasks_end_its_words_are_refused_and_others_go_on() -> None:
    world = World(grants=[grant("alice"), expiring("mallory", 5000.0), grant(HOST)])
    (engine,) = world.engines(1)
    alice, mallory = world.client("alice"), world.client("mallory")
    mallory.direct(["m1", "m2"], [0, 0])
    alice.direct(["a"], [0])
    engine.start()
    assert not world.core.expire(4999.9, world.now)
    assert world.core.expire(5000.0, world.now)
    assert world.core.stands("mallory") is not None
    engine.receive()
    assert mallory.error_of("m2") == "KeyExpired"
    engine.finish()
    assert mallory.error_of("m1") == "KeyExpired"
    mallory.submit("late")
    assert mallory.error_of("late") == "Refused"
    assert engine.drain() == ["a"]
    assert alice.status_of("a") == "ok"


def test_s17_s12_an_expired_join_key_takes_its_engines_along() -> None:
    world = World(grants=[grant("alice"), expiring(HOST, 5000.0), grant(HOST + "2")])
    (engine,) = world.engines(1)
    other = world.agent(HOST + "2").engine()
    world.core.expire(5000.0, world.now)
    assert world.core.agents.key_of(engine.uuid) is None
    assert world.core.agents.key_of(other.uuid) is not None


@given(st.lists(st.tuples(st.floats(0, 1e9), st.floats(0, 100), st.booleans()), max_size=40))
def test_s17_what_the_scheduler_goes_by_never_goes_back(steps: list[tuple[float, float, bool]]) -> None:
    """Whatever the hub says: another one, which lost its mark, says less."""
    trusted, monotonic, last = TrustedTime(), 0.0, 0.0
    for stamp, passed, heard in steps:
        monotonic += passed
        if heard:
            trusted.heard(stamp, monotonic)
        assert trusted.at(monotonic) >= last
        last = trusted.at(monotonic)


# --- a real cluster ---------------------------------------------------------------------------------------------


def issue_until(place: ClusterPlace, name: str, expires: float, role: Any = "client") -> Capability:
    issuer, config, server = load_issuer(place), load_config(place), load_server(place).keys
    keys, rights = KeyPair.generate(), ("task",) if role == "client" else ("join",)
    signed = sign_grant(
        issuer, config.cluster_id, name=name, role=role, key=keys.public, rights=rights, now=time.time(),
        expires=int(expires),
    )
    apply(place, issuer, lambda old: old.with_grant(signed))
    return sign_capability(
        issuer, keys=keys, cluster=config.cluster, cluster_id=config.cluster_id, role=role, name=name, rights=rights,
        expires=int(expires), server_keys=(server.public,), door=config.doors(config.client_port),
    )


@pytest.fixture
def started() -> Iterator[Callable[[Mark | None], RunningCluster]]:
    """Starts a cluster, on a clock mark."""
    made: list[RunningCluster] = []

    def start(mark: Mark | None) -> RunningCluster:
        cluster = RunningCluster(engines=1)
        made.append(cluster)
        done = cluster.run("secure-ipp", "keys", "init", "--bind", "127.0.0.1", "--host", "127.0.0.1")
        assert done.returncode == 0, done.stderr
        if mark is not None:
            path = cluster.place.durable_dir() / "clock.mark"
            write_private(path, msgspec.json.encode(mark), exclusive=False)
        cluster.start()
        return cluster

    yield start
    for cluster in made:
        cluster.stop()


def clock(cluster: RunningCluster, *words: str) -> dict[str, Any]:
    done = cluster.run("secure-ipp", "clock", "--json", *words)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


@pytest.mark.live
def test_s17_a_session_is_cut_at_the_time_and_the_gate_refuses_the_key(started: Any) -> None:
    cluster = started(None)
    expires = int(time.time()) + 4
    capability = issue_until(cluster.place, "short", expires)
    trail = Trail(cluster.place)
    rogue = Rogue.of(capability).come_in()
    rogue.say(*[messages.Submit(f"t{n}", "apply", b"", [b"x"], [], time.time()) for n in range(10)])
    error = rogue.refused()
    assert isinstance(error, KeyExpired), error
    assert (error.message, error.code) == ("your key has expired", "expired")
    assert expires <= time.time() < expires + 1
    rogue.close()
    again = Rogue.of(capability)
    assert again.refused().code == "key-refused"
    again.close()
    trail.wait("gate", status="400", reason="expired")


@pytest.mark.live
def test_s17_a_clock_set_back_revives_nobody(started: Any) -> None:
    """It was half an hour later when the mark was written, in an earlier boot."""
    cluster = started(Mark(time.time() + 1800, 0.0, "an earlier boot"))
    expired = issue_until(cluster.place, "expired", time.time() + 900)
    alive = issue_until(cluster.place, "alive", time.time() + 2700)
    Rogue.of(alive).come_in().close()
    rogue = Rogue.of(expired)
    assert rogue.refused().code == "key-refused"
    rogue.close()
    found = clock(cluster)
    assert found["behind"] > 1700
    assert "behind" in cluster.run("secure-ipp", "clock").stdout
    assert "behind" in cluster.run("secure-ipp", "status").stdout


@pytest.mark.live
def test_s17_a_jump_ahead_waits_for_the_owner(started: Any) -> None:
    """By the mark of this boot it is two hours earlier than the wall clock says."""
    now = read_clocks()
    if not now.boot:
        pytest.skip("this system does not name its boots")
    cluster = started(Mark(now.wall - 2 * HOUR, now.steady, now.boot))
    rogue = Rogue.of(issue_until(cluster.place, "kept", time.time() - HOUR)).come_in()
    found = clock(cluster)
    assert found["runs"]
    assert 1.9 * HOUR < found["jump"] < 2.1 * HOUR
    assert "clock --accept" in cluster.run("secure-ipp", "status").stdout
    wait_until(lambda: "clock_jumped" in cluster.logs() or _recorded(cluster, "clock_jumped"), 5)
    accepted = clock(cluster, "--accept")
    assert accepted["jump"] == 0
    assert abs(accepted["trusted"] - time.time()) < 5
    assert isinstance(rogue.refused(), KeyExpired)
    rogue.close()
    assert _recorded(cluster, "clock_accepted")


def _recorded(cluster: RunningCluster, what: str) -> bool:
    return any(what.encode() in file.read_bytes() for file in cluster.place.dir.rglob("*") if file.is_file())


@pytest.mark.live
def test_a_jump_is_accepted_without_a_controller_too(home: Any) -> None:
    cluster = RunningCluster(engines=0)
    assert cluster.run("secure-ipp", "keys", "init", "--bind", "127.0.0.1", "--host", "127.0.0.1").returncode == 0
    now = read_clocks()
    mark = Mark(now.wall - 2 * HOUR, now.steady, now.boot, waiting=True)
    write_private(cluster.place.durable_dir() / "clock.mark", msgspec.json.encode(mark), exclusive=False)
    assert clock(cluster)["jump"] > HOUR
    accepted = clock(cluster, "--accept")
    assert accepted["jump"] == 0 and not accepted["runs"]
    assert clock(cluster)["jump"] == 0
