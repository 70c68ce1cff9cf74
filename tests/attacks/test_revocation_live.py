"""Revocations at a real cluster under load, with their times (S17); by the owner's own command path (S10)."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import secure_ipp as ipp
from secure_ipp.cluster import control
from secure_ipp.cluster.registry_change import apply
from secure_ipp.errors import Refused, Revoked
from secure_ipp.keys.capability import Capability, dump_capability, sign_capability
from secure_ipp.keys.cluster_keys import load_issuer, load_server
from secure_ipp.keys.config import load_config
from secure_ipp.keys.curve import KeyPair
from secure_ipp.keys.grants import sign_grant
from secure_ipp.keys.places import ClusterPlace
from secure_ipp.keys.private_files import write_private
from secure_ipp.wire import messages
from tests.attacks.rogue import Rogue, Trail, grant_id, issue, revoke
from tests.running import RunningCluster, argv, wait_until

pytestmark = pytest.mark.live
REVOCATIONS = 50
INNOCENTS = 3
UNDER_WAY = 400
SECOND = 1.0


@pytest.fixture(scope="module")
def town() -> Iterator[RunningCluster]:
    cluster = RunningCluster(engines=2)
    cluster.start()
    yield cluster
    cluster.stop()


@pytest.fixture(scope="module")
def honest(town: RunningCluster) -> Any:
    client = town.client()
    client.wait_for_engines(2, timeout=30)
    return client


def issue_many(place: ClusterPlace, count: int) -> list[Capability]:
    """In one version of the registry."""
    issuer, config, server = load_issuer(place), load_config(place), load_server(place).keys
    made, grants = [], []
    for number in range(count):
        keys, name = KeyPair.generate(), f"crowd-{number}"
        grants.append(sign_grant(
            issuer, config.cluster_id, name=name, role="client", key=keys.public, rights=("task", "direct"),
            now=time.time(),
        ))
        made.append(sign_capability(
            issuer, keys=keys, cluster=config.cluster, cluster_id=config.cluster_id, role="client", name=name,
            rights=("task", "direct"), expires=0, server_keys=(server.public,),
            door=config.doors(config.client_port),
        ))

    def change(old: Any) -> Any:
        for grant in grants:
            old = old.with_grant(grant)
        return old

    assert apply(place, issuer, change).in_force
    return made


class Innocents:
    """Processes that work on, each under an identity of its own."""

    def __init__(self, files: list[Path]) -> None:
        self._processes = [
            subprocess.Popen(
                [sys.executable, "-m", "tests.attacks.innocent", str(file), str(UNDER_WAY)], stdin=subprocess.PIPE,
                stdout=subprocess.PIPE, text=True,
            )
            for file in files
        ]
        for process in self._processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "at work\n"

    def end(self) -> list[dict[str, Any]]:
        said = [json.loads(process.communicate("", 90)[0]) for process in self._processes]
        assert all(process.returncode == 0 for process in self._processes)
        return said

    def kill(self) -> None:
        for process in self._processes:
            process.kill()
            process.communicate()


def percentile(times: list[float], part: float) -> float:
    return sorted(times)[min(len(times) - 1, int(part * len(times)))]


def test_s17_fifty_revocations_under_load_within_a_second_each_and_no_innocent_task_lost(
    town: RunningCluster, honest: Any
) -> None:
    place = town.place
    files = []
    for number in range(INNOCENTS):
        file = place.dir / f"innocent-{number}.json"
        write_private(file, dump_capability(issue(place, ("task", "direct"))))
        files.append(file)
    doomed = issue_many(place, REVOCATIONS)
    rogues = [Rogue.of(capability).come_in() for capability in doomed]
    innocents = Innocents(files)
    told, in_force = list[float](), list[float]()
    try:
        for number, (capability, rogue) in enumerate(zip(doomed, rogues, strict=True)):
            rogue.say(*[
                messages.Submit(f"r{number}-{n}", "apply", b"", [b"not run, or an error"], [], time.time())
                for n in range(200)
            ])
            begun = time.monotonic()
            revoke(place, capability)
            in_force.append(time.monotonic() - begun)
            error = rogue.refused()
            assert isinstance(error, Revoked) and error.code == "revoked", error
            told.append(rogue.failed_at - begun)
            if number % 10 == 0:
                again = Rogue.of(capability)
                assert again.refused().code == "key-refused"
                again.close()
        said = innocents.end()
    finally:
        innocents.kill()
        for rogue in rogues:
            rogue.close()
    worst = {"session ended": percentile(told, 0.99), "in force": percentile(in_force, 0.99)}
    print(
        f"\n{REVOCATIONS} revocations beside {sum(one['sent'] for one in said)} innocent tasks: "
        + "; ".join(f"{what}: p50 {percentile(times, 0.5) * 1000:.0f} ms, p99 {percentile(times, 0.99) * 1000:.0f} ms"
                    for what, times in (("session ended", told), ("in force", in_force)))
    )
    assert all(seconds <= SECOND for seconds in worst.values()), worst
    assert all(not one["wrong"] for one in said), said
    assert sum(one["sent"] for one in said) >= 2000, said
    assert honest[:].apply_sync(abs, -1) == [1, 1]


def slow() -> None:
    import time

    until = time.time() + 60
    while time.time() < until:
        time.sleep(0.01)


def test_s17_a_clients_tasks_end_in_revoked_and_what_ran_is_interrupted(town: RunningCluster, honest: Any) -> None:
    capability = issue(town.place, ("task", "direct"))
    client = ipp.Client(str(town.place.dir / f"{capability.name}.json"), timeout=20)
    try:
        running = client[:].apply_async(slow)
        queued = client.load_balanced_view().map_async(abs, range(500))
        mine = [honest.load_balanced_view().apply_async(pow, 2, 10), honest[[0]].apply_async(pow, 2, 11)]
        wait_until(lambda: control.ask(town.place, "status")["scheduler"]["tasks_running"] >= 2, 10)
        begun = time.monotonic()
        revoke(town.place, capability)
        for result in (running, queued):
            with pytest.raises(ipp.CompositeError) as together:
                result.get(SECOND)
            with pytest.raises(Revoked) as caught:
                together.value.raise_exception()
            assert caught.value.message == "your key was revoked"
            assert caught.value.code == "revoked"
        assert time.monotonic() - begun < SECOND
        assert mine[0].get(10) == 1024, "the engines are free again: what ran there was interrupted"
        assert mine[1].get(10) == [2048]
        assert time.monotonic() - begun < 10
        with pytest.raises(Refused):
            client[:].apply_async(abs, 1)
    finally:
        client.close()


def test_s17_on_record(town: RunningCluster, honest: Any) -> None:
    trail = Trail(town.place)
    capability = issue(town.place, ("task",))
    user = grant_id(town.place, capability.name)
    rogue = Rogue.of(capability).come_in()
    revoke(town.place, capability)
    rogue.refused()
    trail.wait("left", user=user, reason="your key was revoked")
    rogue.close()
    again = Rogue.of(capability)
    again.refused()
    again.close()
    trail.wait("gate", key=capability.public_key.fingerprint, status="400")


def test_s12_s17_revoking_a_join_key_ends_its_host_and_no_other(honest: Any, town: RunningCluster) -> None:
    capability = issue(town.place, ("join",), role="engine", engines=4)
    file = town.place.dir / f"{capability.name}.json"
    agent = subprocess.Popen(
        [*argv("ipengine"), "--file", str(file), "-n", "2"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True,
    )
    try:
        honest.wait_for_engines(4, timeout=30)
        begun = time.monotonic()
        revoke(town.place, capability)
        wait_until(lambda: len(honest.ids) == 2, 5)
        assert time.monotonic() - begun < SECOND
        said, _ = agent.communicate(timeout=20)
        assert agent.returncode != 0
        assert "revoked" in said
    finally:
        if agent.poll() is None:
            agent.send_signal(signal.SIGKILL)
            agent.communicate()
    assert honest[:].apply_sync(abs, -1) == [1, 1]


