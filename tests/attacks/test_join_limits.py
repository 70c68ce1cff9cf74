"""Join keys that are good for so many joins, from so few places (S12)."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secure_ipp.cluster.registry_change import apply
from secure_ipp.errors import PolicyError, Refused
from secure_ipp.hub.grants import LiveGrants
from secure_ipp.hub.joins import Joins, judged
from secure_ipp.keys.capability import Capability, dump_capability, sign_capability
from secure_ipp.keys.cluster_keys import load_issuer, load_server
from secure_ipp.keys.config import load_config
from secure_ipp.keys.curve import KeyPair
from secure_ipp.keys.grants import sign_grant
from secure_ipp.keys.places import ClusterPlace
from secure_ipp.keys.private_files import make_private_dir, write_private
from secure_ipp.wire import messages
from tests.attacks.rogue import Rogue
from tests.running import RunningCluster, argv, wait_until
from tests.scheduler.world import HOST, World, grant, refused

USER = "j" * 22


def grants(joins: int) -> LiveGrants:
    hosts = messages.GrantInfo(USER, "hosts", "agent", b"k" * 32, ["join"], 0.0, joins=joins)
    return LiveGrants(1, {USER: hosts})


# --- what the hub decides ------------------------------------------------------------------------------------


def test_a_key_without_a_limit_is_not_counted() -> None:
    assert judged(Joins(), grants(0), USER, b"one") is None
    assert judged(None, grants(0), USER, b"one") is None


def test_s12_so_many_and_no_more_and_each_once() -> None:
    joins = Joins()
    for instance in (b"one", b"two"):
        kept = judged(joins, grants(2), USER, instance)
        assert kept is not None
        joins = kept
    assert judged(joins, grants(2), USER, b"one") is None, "it has joined: it may come back"
    with pytest.raises(Refused) as caught:
        judged(joins, grants(2), USER, b"three")
    assert caught.value.code == "joins"
    assert "2" in caught.value.message


@pytest.mark.parametrize("instance", [b"", b"guess"])
def test_s12_nobody_passes_for_one_that_has_joined(instance: bytes) -> None:
    joins = judged(Joins(), grants(1), USER, os.urandom(32))
    with pytest.raises(Refused):
        judged(joins, grants(1), USER, instance)


def test_s12_what_cannot_be_read_admits_nobody() -> None:
    with pytest.raises(Refused):
        judged(None, grants(5), USER, b"one")
    with pytest.raises(Refused):
        judged(Joins(), grants(5), "stranger", b"one")


@pytest.fixture
def place(home: Path) -> ClusterPlace:
    found = ClusterPlace("default", home)
    make_private_dir(found.dir)
    return found


def test_the_file_is_private_and_a_damaged_one_an_error(place: ClusterPlace) -> None:
    assert Joins.load(place) == Joins()
    kept = judged(Joins(), grants(1), USER, b"one")
    assert kept is not None
    kept.save(place)
    assert Joins.load(place) == kept
    assert os.stat(place.joins).st_mode & 0o777 == 0o600
    place.joins.write_bytes(b'{"format": "secure-ipp-joins/1", "joined": {}, "more": 1}')
    with pytest.raises(PolicyError):
        Joins.load(place)


@given(st.lists(st.binary(max_size=3), max_size=30), st.integers(1, 4))
def test_s12_whoever_comes_in_whatever_order_no_more_than_the_limit_join(came: list[bytes], limit: int) -> None:
    joins, joined = Joins(), set[bytes]()
    for instance in came:
        try:
            kept = judged(joins, grants(limit), USER, instance)
        except Refused:
            assert not instance or (len(joined) == limit and instance not in joined)
        else:
            joined.add(instance)
            joins = joins if kept is None else kept
    assert len(joined) <= limit


# --- what the scheduler does with it -------------------------------------------------------------------------


def world_with(joins: int) -> World:
    return World(grants=[grant("alice"), msgspec.structs.replace(grant(HOST), joins=joins)])


def test_s12_before_the_hub_has_said_so_an_agent_announces_nothing() -> None:
    world = world_with(1)
    peer = world.core.agent_joined("session", HOST, b"t" * 16)
    world.core.agent_message(peer, messages.Join("host", 1, [], b"instance"), world.now)
    world.core.agent_message(peer, messages.Announce([b"e" * 32]), world.now)
    assert not world.core.agents.keys
    (asked,) = world.hub_got(messages.JoinAsked)
    assert (asked.user, asked.session, asked.instance) == (HOST, b"t" * 16, b"instance")
    world.core.hub_message(messages.JoinAnswered(b"t" * 16), world.now)
    assert list(world.core.agents.keys) == [b"e" * 32]


def test_s12_whoever_is_told_no_is_to_be_cut() -> None:
    world = world_with(1)
    peer = world.core.agent_joined("session", HOST, b"t" * 16)
    world.core.agent_message(peer, messages.Join("host", 1, [], b"instance"), world.now)
    world.core.agent_message(peer, messages.Announce([b"e" * 32]), world.now)
    world.core.hub_message(messages.JoinAnswered(b"t" * 16, "joins", "used up"), world.now)
    assert peer.refusal is not None and peer.refusal.code == "joins"
    assert not world.core.agents.keys


def test_s12_hosts_that_share_the_name_of_one_that_joined_are_not_here_together() -> None:
    """The holder of a key for one join tells all its hosts the instance that joined."""
    world = world_with(1)
    peers = []
    for token in (b"t" * 16, b"u" * 16, b"v" * 16):
        peer = world.core.agent_joined(token, HOST, token)
        peers.append(peer)
        world.core.agent_message(peer, messages.Join("host", 1, [], b"instance"), world.now)
        world.core.hub_message(messages.JoinAnswered(token), world.now)
    assert [peer.refusal.code if peer.refusal else "" for peer in peers] == ["replaced", "replaced", ""]
    world.core.agents.left(peers[0], "cut", world.now)
    last = world.core.agent_joined(b"w" * 16, HOST, b"w" * 16)
    world.core.agent_message(last, messages.Join("host", 1, [], b"instance"), world.now)
    world.core.hub_message(messages.JoinAnswered(b"w" * 16), world.now)
    assert peers[2].refusal is not None and last.refusal is None


def test_s12_an_agent_that_talks_on_is_cut_and_another_hub_is_asked_again() -> None:
    world = world_with(1)
    peer = world.core.agent_joined("session", HOST, b"t" * 16)

    def talk() -> None:
        for _ in range(100):
            world.core.agent_message(peer, messages.Announce([b"e" * 32]), world.now)

    assert refused(talk) == "quota"
    other = world.core.agent_joined("another", HOST, b"u" * 16)
    world.core.agent_message(other, messages.Join("host", 1, [], b"instance"), world.now)
    world.to_hub.clear()
    world.core.hub_welcome(False)
    assert len(world.hub_got(messages.JoinAsked)) == 1


# --- a real cluster ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def town() -> Iterator[RunningCluster]:
    cluster = RunningCluster(engines=1)
    cluster.start()
    yield cluster
    cluster.stop()


def join_key(place: ClusterPlace, name: str, **limits: Any) -> Capability:
    issuer, config, server = load_issuer(place), load_config(place), load_server(place).keys
    keys = KeyPair.generate()
    signed = sign_grant(
        issuer, config.cluster_id, name=name, role="engine", key=keys.public, rights=("join",), now=time.time(),
        engines=4, **limits,
    )
    assert apply(place, issuer, lambda old: old.with_grant(signed)).in_force
    made = sign_capability(
        issuer, keys=keys, cluster=config.cluster, cluster_id=config.cluster_id, role="engine", name=name,
        rights=("join",), expires=0, server_keys=(server.public,), door=config.doors(config.engine_port),
    )
    write_private(place.dir / f"{name}.json", dump_capability(made))
    return made


@pytest.fixture
def agents() -> Iterator[Callable[[Path], subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []

    def start(file: Path) -> subprocess.Popen[str]:
        started.append(subprocess.Popen(
            [*argv("ipengine"), "--file", str(file), "-n", "1"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True,
        ))
        return started[-1]

    yield start
    for agent in started:
        if agent.poll() is None:
            agent.send_signal(signal.SIGTERM)
        agent.communicate(timeout=20)


@pytest.mark.live
def test_s12_a_single_use_key_joins_once_over_restarts_of_both_and_never_again(
    town: RunningCluster, agents: Callable[[Path], subprocess.Popen[str]]
) -> None:
    client = town.client()
    client.wait_for_engines(1, timeout=30)
    join_key(town.place, "once", joins=1)
    file = town.place.dir / "once.json"
    agents(file)
    client.wait_for_engines(2, timeout=30)
    second = agents(file)
    said, _ = second.communicate(timeout=30)
    assert second.returncode != 0
    assert "good for 1 joins" in said
    for process in ("scheduler", "hub"):
        os.kill(town.pids()[process], signal.SIGKILL)
        wait_until(lambda: sorted(client[:].apply_sync(abs, -1)) == [1, 1], 30)
    third = agents(file)
    assert "good for 1 joins" in third.communicate(timeout=30)[0]


@pytest.mark.live
def test_s12_from_elsewhere_the_door_does_not_open(town: RunningCluster) -> None:
    far = Rogue.of(join_key(town.place, "far", networks=("192.0.2.0/24",)))
    assert far.refused().code == "key-refused"
    far.close()
    near = Rogue.of(join_key(town.place, "near", networks=("192.0.2.0/24", "127.0.0.0/8")))
    near.come_in().close()
