"""Engines of one's own on a real cluster (S27): what one identity leaves in an engine, no other one finds."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest

import secure_ipp
from tests.running import RunningCluster, gone, journal_lines, wait_until

pytestmark = pytest.mark.live


@pytest.fixture
def town() -> Iterator[RunningCluster]:
    cluster = RunningCluster(engines=2)
    cluster.start()
    yield cluster
    cluster.stop()


def guest(town: RunningCluster, name: str, tenancy: str) -> Any:
    """A client of another identity, issued by the command."""
    file = town.home / f"{name}.json"
    done = town.run("secure-ipp", "keys", "issue", name, tenancy, "--out", str(file))
    assert done.returncode == 0, done.stderr
    client = secure_ipp.Client(str(file), timeout=20, results="data")
    town._clients.append(client)
    return client


def owner(town: RunningCluster) -> Any:
    client = town.client()
    client.wait_for_engines(2, timeout=30)
    return client


def leave_a_secret(client: Any) -> dict[int, int]:
    """In the namespaces of both engines, among their modules, and in their function caches; gives their processes."""
    view = client[:]
    view.push({"secret": "the owner's"})
    view.execute("import sys, types; sys.modules['left_behind'] = types.ModuleType('left_behind')", block=True)
    return dict(zip(client.ids, view.apply_sync(os.getpid), strict=True))


LOOK = """
import sys, gc
found = [name for name in ("secret", "left_behind") if name in globals() or name in sys.modules]
"""


def test_s27_a_collaborator_with_engines_of_its_own_finds_nothing_of_the_owners(town: RunningCluster) -> None:
    ours = owner(town)
    processes = leave_a_secret(ours)
    carol = guest(town, "carol", "--own-engines")
    assert sorted(carol.ids) == [0, 1]
    view = carol[0]
    with pytest.raises(Exception, match="NameError"):
        view.pull("secret", block=True)
    view.execute(LOOK, block=True)
    assert view.pull("found", block=True) == []
    assert view.apply_sync(os.getpid) != processes[0], "it is another process"
    assert sorted(ours.ids) == sorted(carol.ids) == [0, 1], "under the same id"
    assert ours[1].pull("secret", block=True) == "the owner's", "what was not needed was left alone"
    view.push({"mine": "carol's"}, block=True)
    with pytest.raises(Exception, match="NameError"):
        ours[0].pull("mine", block=True)
    changed = [line for line in journal_lines(town.place) if line.get("what") == "engine-changes-hands"]
    assert len(changed) == 2


def test_s27_a_collaborator_who_shares_engines_works_in_the_same_namespaces(town: RunningCluster) -> None:
    ours = owner(town)
    processes = leave_a_secret(ours)
    ben = guest(town, "ben", "--shared-engines")
    guest(town, "carol", "--own-engines")
    assert ben[0].pull("secret", block=True) == "the owner's"
    assert dict(zip(ben.ids, ben[:].apply_sync(os.getpid), strict=True)) == processes


def test_s27_a_revoked_identitys_engines_are_replaced(town: RunningCluster) -> None:
    ours = owner(town)
    carol = guest(town, "carol", "--own-engines")
    processes = leave_a_secret(carol)
    done = town.run("secure-ipp", "keys", "revoke", "carol", "--yes")
    assert done.returncode == 0, done.stderr
    assert gone(list(processes.values()), 10)
    view = ours[:]
    view.execute(LOOK, block=True)
    assert view.pull("found", block=True) == [[], []]


def test_s27_a_scheduler_that_was_killed_still_knows_whose_engines_are(town: RunningCluster) -> None:
    """The one that comes after it has it from the hub; what carol runs on her engines is not asked."""
    ours = owner(town)
    carol = guest(town, "carol", "--own-engines")
    carol[0].push({"secret": "carol's"}, block=True)
    ours[1].push({"secret": "the owner's"}, block=True)
    before = town.pids()["scheduler"]
    os.kill(before, signal.SIGKILL)
    wait_until(lambda: town.pids()["scheduler"] != before, 30)
    assert carol[0].pull("secret", block=True) == "carol's", "hers it is still"
    assert ours[1].pull("secret", block=True) == "the owner's"
    with pytest.raises(Exception, match="NameError"):
        ours[0].pull("secret", block=True)
    with pytest.raises(Exception, match="NameError"):
        carol[1].pull("secret", block=True)


def test_s27_two_identities_with_much_to_do_share_the_engines_in_time(town: RunningCluster) -> None:
    ours = owner(town)
    carol = guest(town, "carol", "--own-engines")
    first = ours.load_balanced_view().map_async(slow_square, range(400))
    second = carol.load_balanced_view().map_async(slow_square, range(100))
    assert second.get(timeout=60) == [number * number for number in range(100)]
    assert first.get(timeout=60) == [number * number for number in range(400)]


def slow_square(number: int) -> int:
    import time

    time.sleep(0.02)
    return number * number
