"""What an identity may take, and how it learns that it may take no more (S18)."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import secure_ipp as ipp
from secure_ipp import limits
from secure_ipp.cluster.registry_change import apply
from secure_ipp.errors import ProtocolError
from secure_ipp.keys.capability import Capability, sign_capability
from secure_ipp.keys.cluster_keys import load_issuer, load_server
from secure_ipp.keys.config import load_config
from secure_ipp.keys.curve import KeyPair
from secure_ipp.keys.grants import Quotas, sign_grant
from secure_ipp.keys.holder import HolderKey
from secure_ipp.keys.places import ClusterPlace
from secure_ipp.scheduler.quota import Meter
from secure_ipp.wire import messages
from secure_ipp.wire.codec import PacketDecoder
from secure_ipp.wire.link import Link
from tests.attacks.rogue import Rogue, issue
from tests.running import RunningCluster
from tests.scheduler.world import HOST, World, grant


def allowed(user: str, **quotas: Any) -> messages.GrantInfo:
    return msgspec.structs.replace(grant(user), **quotas)


def world_of(*grants: messages.GrantInfo) -> World:
    return World(grants=[*grants, grant(HOST)])


# --- unfinished tasks, and their bytes ---------------------------------------------------------------------------


def test_s18_beyond_its_tasks_an_identity_gets_errors_that_name_the_quota_and_others_nothing() -> None:
    world = world_of(allowed("mallory", tasks=5), grant("alice"))
    mallory, alice = world.client("mallory"), world.client("alice")
    for number in range(9):
        mallory.submit(f"m{number}")
        alice.submit(f"a{number}")
    ends = [mallory.outcomes(f"m{number}") for number in range(9)]
    assert [bool(end) for end in ends] == [False] * 5 + [True] * 4
    error = ends[5][0].error
    assert error is not None and error.ename == "QuotaExceeded"
    assert "tasks" in error.evalue and "5" in error.evalue
    (engine,) = world.engines(1)
    engine.drain()
    assert all(alice.status_of(f"a{number}") == "ok" for number in range(9))
    mallory.submit("room again")
    engine.drain()
    assert mallory.status_of("room again") == "ok"


def test_s18_beyond_its_bytes_too() -> None:
    world = world_of(allowed("mallory", bytes=1000))
    mallory = world.client("mallory")
    mallory.submit("a", body=[b"x" * 900])
    mallory.submit("b", body=[b"x" * 900])
    (end,) = mallory.outcomes("b")
    assert end.error is not None and end.error.ename == "QuotaExceeded" and "1000" in end.error.evalue


def test_s18_a_session_is_told_how_much_to_keep_here_and_when_that_changes() -> None:
    world = world_of(allowed("mallory", tasks=50), grant("alice"))
    mallory, alice = world.client("mallory"), world.client("alice")
    (told,) = mallory.sink.take(messages.Allowance)
    assert (told.tasks, told.bytes) == (50, limits.OWNER_TASK_BYTES)
    assert alice.sink.of(messages.Allowance) == []
    world.core.hub_message(messages.Grants(2, [allowed("mallory", tasks=70), grant(HOST)], []), world.now)
    assert mallory.sink.take(messages.Allowance) == [messages.Allowance(70, limits.OWNER_TASK_BYTES)]
    mallory_again = world.client("mallory")
    assert mallory_again.sink.of(messages.Allowance)


def derived(user: str, parent: str) -> messages.GrantInfo:
    return msgspec.structs.replace(grant(user), parent=parent)


def test_s18_s32_whoever_was_handed_a_key_draws_on_the_quota_of_the_one_at_the_root() -> None:
    world = world_of(allowed("ada", tasks=6), derived("ben", "ada"), derived("cay", "ben"), grant("alice"))
    clients = [world.client(user) for user in ("ada", "ben", "cay")]
    for number in range(3):
        for client in clients:
            client.submit(f"t{number}")
    refused = [client.error_of("t2") for client in clients]
    assert refused == ["QuotaExceeded"] * 3
    world.client("alice").submit("free")
    assert not world.core.board.owner("alice").ended


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 2**32))
def test_s18_s32_nobody_grows_by_handing_on_and_all_is_paid_back(seed: int) -> None:
    """Random trees of identities, random work and ends: the sum of a tree is within the quota of its root."""
    rng = random.Random(seed)
    users = [f"u{number}" for number in range(6)]
    tree = {users[0]: "", users[1]: ""} | {user: rng.choice(users[:n + 2]) for n, user in enumerate(users[2:])}
    quota = {users[0]: rng.randint(1, 6), users[1]: rng.randint(1, 6)}

    def root(user: str) -> str:
        return user if not tree[user] else root(tree[user])

    world = world_of(*(allowed(user, parent=tree[user], tasks=quota.get(user, 0)) for user in users))
    engines = world.engines(2)
    clients = {user: world.client(user) for user in users}
    for step in range(60):
        user = rng.choice(users)
        if rng.random() < 0.7:
            clients[user].submit(f"t{step}")
        elif rng.random() < 0.8:
            engine = rng.choice(engines)
            if engine.start() is not None:
                engine.finish()
        else:
            clients[user].leave()
            clients[user] = world.client(user)
        for top in users[:2]:
            live = sum(len(owner.live) for name, owner in world.core.board.owners.items() if root(name) == top)
            assert live <= quota[top]
    for _ in range(3):
        for engine in engines:
            engine.drain()
    assert all((a.tasks, a.bytes) == (0, 0) for a in world.core.board.accounts.values())


def test_s18_accounts_of_those_who_are_gone_are_forgotten() -> None:
    world = world_of(grant("alice"), allowed("ada", tasks=6), derived("ben", "ada"))
    for user in ("ada", "ben"):
        world.client(user).leave()
    world.core.hub_message(messages.Grants(2, [grant("alice"), grant(HOST)], []), world.now)
    world.core.hub_message(messages.Grants(3, [grant("alice"), grant(HOST)], []), world.now)
    assert set(world.core.board.accounts) <= {"alice", HOST}
    assert set(world.core.board.roots) <= {"alice", HOST}


# --- messages a second ---------------------------------------------------------------------------------------------


@given(st.floats(1, 1e6), st.lists(st.tuples(st.floats(0, 5), st.integers(0, 2000)), max_size=60))
def test_s18_the_mean_holds_for_whoever_waits_as_told(rate: float, packets: list[tuple[float, int]]) -> None:
    """Beyond one second's worth at once, and one packet, no more than the rate."""
    meter, now, sent = Meter(rate), 0.0, 0
    for pause, count in packets:
        now += pause
        largest = max(n for _, n in packets)
        wait = meter.take(count, now)
        sent += count
        now += wait
        assert sent <= rate * (now + 1.0) + largest + 1


def links() -> tuple[Link, Link]:
    return Link(PacketDecoder(messages.FromClient)), Link(PacketDecoder(messages.FromClient))


def test_s18_an_honest_peer_stops_when_it_is_not_acknowledged_and_goes_on_when_it_is() -> None:
    mine, theirs = links()
    got, sent = 0, 0
    for number in range(1000):
        theirs.send(messages.Pull(f"{number}"))
        while (packet := theirs.next_packet()) is not None:
            sent += 1
            got += len(mine.receive(packet))
            mine.hold()
            theirs.receive(mine.acknowledgement())
    assert sent == limits.LINK_WINDOW_PACKETS
    mine.let_go()
    theirs.receive(mine.acknowledgement())
    while (packet := theirs.next_packet()) is not None:
        got += len(mine.receive(packet))
        theirs.receive(mine.acknowledgement())
    assert got == 1000


def test_s18_a_new_connection_does_not_open_the_window() -> None:
    mine, theirs = links()
    for number in range(5):
        theirs.send(messages.Pull(f"{number}"))
        packet = theirs.next_packet()
        assert packet is not None
        mine.receive(packet)
        mine.hold()
    assert mine.acknowledged_here == 0
    theirs.resumed(mine.acknowledged_here)
    again = 0
    while (packet := theirs.next_packet()) is not None:
        again += len(mine.receive(packet))
    assert again == 0, "it has them"


def test_s18_whoever_goes_on_beyond_its_credit_is_cut() -> None:
    mine, rogue = links()
    with pytest.raises(ProtocolError) as caught:
        for number in range(limits.LINK_WINDOW_PACKETS + 2):
            rogue._sent.clear()  # it pays no heed to its window
            rogue.send(messages.Pull(f"{number}"))
            packet = rogue.next_packet()
            assert packet is not None
            mine.receive(packet)
            mine.hold()
    assert caught.value.code == "credit"


# --- a real cluster ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def town() -> Iterator[RunningCluster]:
    cluster = RunningCluster(engines=2)
    cluster.start()
    yield cluster
    cluster.stop()


def issue_with(place: ClusterPlace, name: str, **quotas: int) -> Capability:
    issuer, config, server = load_issuer(place), load_config(place), load_server(place).keys
    keys, rights = KeyPair.generate(), ("task", "direct")
    signed = sign_grant(
        issuer, config.cluster_id, name=name, role="client", key=keys.public, rights=rights, now=time.time(),
        quotas=Quotas(**quotas), signing_key=HolderKey.of(keys.secret).public(),
    )
    assert apply(place, issuer, lambda old: old.with_grant(signed)).in_force
    return sign_capability(
        issuer, keys=keys, cluster=config.cluster, cluster_id=config.cluster_id, role="client", name=name,
        rights=rights, expires=0, server_keys=(server.public,), door=config.doors(config.client_port),
    )


@pytest.mark.live
def test_s18_sessions_beyond_the_quota_are_refused_with_its_name_and_one_that_closes_makes_room(
    town: RunningCluster,
) -> None:
    capability = issue_with(town.place, "two-sessions", sessions=2)
    first, second = (Rogue.of(capability).come_in() for _ in range(2))
    third = Rogue.of(capability)
    error = third.refused()
    assert error.code == "quota"
    assert "sessions" in error.message and "2" in error.message
    second.close()
    fourth = Rogue.of(capability).come_in()
    for rogue in (first, third, fourth):
        rogue.close()


@pytest.mark.live
def test_s18_a_small_quota_of_tasks_is_back_pressure_for_an_honest_client(town: RunningCluster) -> None:
    with ipp.Client(issue_with(town.place, "ten-tasks", tasks=10).as_dict(), timeout=20) as client:
        client.wait_for_engines(2, timeout=30)
        assert list(client.load_balanced_view().map_sync(abs, range(300))) == list(range(300))
        child = client.attenuate("small")
        with ipp.Client(child.as_dict(), timeout=20) as other:
            other.wait_for_engines(2, timeout=30)
            assert list(other.load_balanced_view().map_sync(abs, range(50))) == list(range(50))


@pytest.mark.live
def test_s18_whoever_pays_no_heed_to_its_allowance_gets_errors_by_name(town: RunningCluster) -> None:
    rogue = Rogue.of(issue_with(town.place, "greedy", tasks=20)).come_in()
    rogue.say(*[messages.Submit(f"t{n}", "apply", b"", [b"x"], [], time.time()) for n in range(200)])
    outcome = rogue.hear(messages.Outcome, lambda m: m.error is not None and m.error.ename == "QuotaExceeded")
    assert "20 unfinished tasks" in outcome.error.evalue
    assert rogue.error is None
    rogue.close()


@pytest.mark.live
def test_s18_a_flood_beyond_the_rate_is_held_back_and_an_honest_client_is_not(town: RunningCluster) -> None:
    slow = Rogue.of(issue_with(town.place, "slow", messages=50)).come_in()
    begun = time.monotonic()
    for number in range(400):  # in packets of their own: more than a window
        slow.say(messages.QueueStatus(number, []))
        time.sleep(0.001)
    with ipp.Client(issue(town.place, ("task",)).as_dict(), timeout=20) as honest:
        honest.wait_for_engines(2, timeout=30)
        free = time.monotonic()
        assert list(honest.load_balanced_view().map_sync(abs, range(500))) == list(range(500))
        assert time.monotonic() - free < 5
    assert len(slow.all(messages.Answer)) < 400
    slow.hear(messages.Answer, lambda m: m.request == 399)
    assert time.monotonic() - begun > 1.5
    assert slow.error is None, "held back, not cut"
    slow.close()
