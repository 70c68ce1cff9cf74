"""Changes of the registry: with the controller running, stopped, being restarted, and deaf."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from secure_ipp.cluster import control
from secure_ipp.cluster.registry_change import Applied, NotInForce, apply
from secure_ipp.cluster.state import write_state
from secure_ipp.keys.cluster_keys import load_issuer
from secure_ipp.keys.config import load_config
from secure_ipp.keys.curve import KeyPair
from secure_ipp.keys.grants import sign_grant
from secure_ipp.keys.places import ClusterPlace
from secure_ipp.keys.registry import Registry
from tests.cluster.test_state import controller
from tests.running import RunningCluster, wait_until

pytestmark = pytest.mark.live


@pytest.fixture(scope="module")
def own_cluster() -> Iterator[RunningCluster]:
    one = RunningCluster(engines=1)
    one.start()
    yield one
    one.stop()


def issue(place: ClusterPlace, name: str, **options: float | bool) -> Applied:
    issuer, config = load_issuer(place), load_config(place)
    grant = sign_grant(
        issuer, config.cluster_id, name=name, role="client", key=KeyPair.generate().public, rights=("task",),
        now=time.time(),
    )
    return apply(place, issuer, lambda old: old.with_grant(grant), **options)  # type: ignore[arg-type]


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def test_a_running_controller_has_it_in_force_when_the_command_returns(own_cluster: RunningCluster) -> None:
    began = time.monotonic()
    applied = issue(own_cluster.place, "running")
    took = time.monotonic() - began
    assert (applied.in_force, applied.controller, applied.problem) == (True, "running", "")
    assert took < 1.0
    shown = control.ask(own_cluster.place, "status")["registry"]
    assert (shown["version"], shown["in_force"]) == (applied.registry.version, True)


def test_over_the_hubs_restart(own_cluster: RunningCluster) -> None:
    os.kill(own_cluster.pids()["hub"], signal.SIGKILL)
    assert issue(own_cluster.place, "hub-restarts").in_force


def test_over_the_schedulers_restart(own_cluster: RunningCluster) -> None:
    os.kill(own_cluster.pids()["scheduler"], signal.SIGKILL)
    assert issue(own_cluster.place, "scheduler-restarts").in_force


@pytest.mark.parametrize("process", ["hub", "scheduler"])
def test_s10_a_controller_that_does_not_answer_is_said_so_and_is_an_error(
    own_cluster: RunningCluster, process: str
) -> None:
    place = own_cluster.place
    wait_until(lambda: control.ask(place, "status")["scheduler"]["connected"], 10)
    with stopped(own_cluster.pids()[process]):
        with pytest.raises(NotInForce) as caught:
            issue(place, f"deaf-{process}", seconds=1.0)
        assert caught.value.code == "not-in-force"
        applied = issue(place, f"deaf-{process}-2", seconds=1.0, demand=False)
        assert not applied.in_force
        assert applied.problem
    assert Registry.load(place).named(f"deaf-{process}"), "it is written all the same"
    wait_until(lambda: issue(place, f"hears-{process}-{time.monotonic_ns()}", demand=False).in_force, 20)


def test_commands_at_once_are_in_force_one_after_the_other(own_cluster: RunningCluster) -> None:
    done: list[Applied] = []
    threads = [
        threading.Thread(target=lambda n=n: done.append(issue(own_cluster.place, f"at-once-{n}"))) for n in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(done) == 6
    assert all(applied.in_force for applied in done)
    versions = [applied.registry.version for applied in done]
    assert versions == sorted(set(versions)), "each returned when its version was in force, in their order"


def test_without_a_controller_it_is_written_for_the_next_start() -> None:
    one = RunningCluster(engines=0)
    made = one.run("secure-ipp", "keys", "init", "--bind", "127.0.0.1", "--host", "127.0.0.1")
    assert made.returncode == 0, made.stderr
    applied = issue(one.place, "offline")
    assert (applied.in_force, applied.controller, applied.problem) == (False, "stopped", "")
    assert Registry.load(one.place).named("offline")


def test_s10_a_controller_on_another_host_is_not_taken_for_a_stopped_one() -> None:
    one = RunningCluster(engines=0)
    assert one.run("secure-ipp", "keys", "init", "--bind", "127.0.0.1", "--host", "127.0.0.1").returncode == 0
    write_state(one.place, controller(os.getpid(), 0.0, host="elsewhere"))
    with pytest.raises(NotInForce, match="elsewhere"):
        issue(one.place, "far")
