"""A real controller whose gate is sabotaged from within, or cut off from its hub (S2, S3, S10).

The sabotage is a `sitecustomize` that the scheduler alone takes notice of, and that a file switches on.
"""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from secure_ipp import limits
from secure_ipp.keys.config import load_config
from tests.attacks.rogue import Rogue, Rogues, Trail, undisturbed
from tests.running import ROOT, RunningCluster, short_directory, wait_until

pytestmark = pytest.mark.live

SABOTAGE = """
import os, sys
if "secure_ipp.scheduler" in sys.orig_argv:
    from secure_ipp import limits
    limits.SELF_TEST_SECONDS, limits.SELF_TEST_TIMEOUT_SECONDS = 0.3, 1.0
    from secure_ipp.access import gate
    from secure_ipp.access.decision import Decision
    honest_decide, honest_turn = gate.decide, gate.Gate._turn
    here = os.path.dirname(__file__)

    def decide(request, table, clock, **options):
        if os.path.exists(os.path.join(here, "open")):
            return Decision("200", "come in", "somebody", {"Role": "client", "Grant": "somebody"}, True)
        return honest_decide(request, table, clock, **options)

    def turn(self, socket):
        if os.path.exists(os.path.join(here, "break")):
            self.broken = getattr(self, "broken", 0) + 1
            if self.broken == 5:
                os.unlink(os.path.join(here, "break"))
            raise OSError("sabotaged")
        honest_turn(self, socket)

    gate.decide, gate.Gate._turn = decide, turn
"""


@pytest.fixture
def switches(monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a file of the name `open` or `break` turns the gate bad."""
    directory = short_directory()
    (directory / "sitecustomize.py").write_text(SABOTAGE)
    monkeypatch.setenv("PYTHONPATH", f"{directory}{os.pathsep}{ROOT}")
    return directory


@pytest.fixture
def town(switches: Path) -> Iterator[RunningCluster]:
    cluster = RunningCluster(engines=1)
    yield cluster
    cluster.stop()


def closed(cluster: RunningCluster) -> bool:
    """Whether nobody listens at either door."""
    config = load_config(cluster.place)
    for port in (config.client_port, config.engine_port):
        with socket.socket() as knock:
            if knock.connect_ex(("127.0.0.1", port)) == 0:
                return False
    return True


def test_s2_a_controller_whose_gate_admits_strangers_does_not_start(town: RunningCluster, switches: Path) -> None:
    (switches / "open").touch()
    with pytest.raises(AssertionError, match="let a stranger in"):
        town.start()
    assert closed(town)


def test_s2_doors_that_begin_to_admit_strangers_are_closed(town: RunningCluster, switches: Path) -> None:
    """The trial goes on while the controller runs; one that fails each time it is restarted ends for good."""
    town.start()
    assert not closed(town)
    (switches / "open").touch()
    wait_until(lambda: not town.place.state_file.exists(), 60, "the end of the controller")
    assert closed(town)
    assert "let a stranger in" in (town.place.log_dir / "scheduler.log").read_text()


def test_s2_a_gate_that_ended_is_replaced(town: RunningCluster, switches: Path) -> None:
    """Meanwhile nobody new comes in, which is an alarm and no end; who is in goes on."""
    town.start()
    client, trail = town.client(), Trail(town.place)
    client.wait_for_engines(1, timeout=30)
    with undisturbed(town, client, [0]):
        (switches / "break").touch()
        wait_until(lambda: not (switches / "break").exists())
        trail.wait("probe-unanswered")
        rogues = Rogues(town)
        rogues.of(rogues.owner, patience=30.0).come_in()
        rogues.close()
    assert "another one takes its place" in (town.place.log_dir / "scheduler.log").read_text()


def test_s10_while_the_hub_is_not_heard_nobody_new_comes_in() -> None:
    """Live sessions go on; whoever knocks meanwhile is told to wait, not refused, and comes in afterwards."""
    town = RunningCluster(engines=1)
    town.start()
    client, rogues = town.client(), Rogues(town)
    client.wait_for_engines(1, timeout=30)
    hub, trail = town.pids()["hub"], Trail(town.place)
    try:
        with undisturbed(town, client, [0]):
            os.kill(hub, signal.SIGSTOP)
            time.sleep(limits.GATE_STALE_SECONDS + limits.BEAT_SECONDS)  # what is tested is that time has passed
            waiting = rogues.of(rogues.owner, patience=60.0)
            hasty = Rogue.of(rogues.owner, patience=limits.GATE_EARLY_SECONDS + 3.0)
            assert hasty.refused().code != "key-refused" and hasty.welcome is None
            hasty.close()
            assert waiting.welcome is None and waiting.error is None
            os.kill(hub, signal.SIGCONT)
            waiting.come_in()
        trail.wait("gate", status="300", reason="nobody new is admitted")
    finally:
        os.kill(hub, signal.SIGCONT)
        rogues.close()
        town.stop()
