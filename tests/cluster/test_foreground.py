"""When an interrupt counts: never between a start and its bookkeeping, always afterwards, once."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

from secure_ipp.cluster import foreground, launch
from secure_ipp.cluster.foreground import Interruptions, Run, Wanted


def test_a_signal_is_an_interrupt_once() -> None:
    interruptions = Interruptions()
    with pytest.raises(KeyboardInterrupt):
        interruptions.handle(signal.SIGINT, None)
    interruptions.handle(signal.SIGINT, None)  # the stopping goes on


def test_a_signal_that_is_held_back_comes_at_the_end_of_the_block() -> None:
    interruptions, reached = Interruptions(), []
    with pytest.raises(KeyboardInterrupt), interruptions.held():
        interruptions.handle(signal.SIGINT, None)
        reached.append("the end")
    assert reached == ["the end"]


def test_without_a_signal_nothing_is_raised_and_a_later_one_counts() -> None:
    interruptions = Interruptions()
    with interruptions.held():
        pass
    with pytest.raises(KeyboardInterrupt):
        interruptions.handle(signal.SIGTERM, None)


def test_an_error_in_the_block_stays_that_error() -> None:
    interruptions = Interruptions()
    with pytest.raises(ZeroDivisionError), interruptions.held():
        interruptions.handle(signal.SIGINT, None)
        raise ZeroDivisionError


class Child:
    """A stand-in for an agent that was just started."""

    what, pid = "the engines' agent", 1

    def __init__(self) -> None:
        self.stops = 0

    def stop(self) -> int:
        self.stops += 1
        return 0

    def wait_for(self, *args: Any, **options: Any) -> None:
        pytest.fail("the interrupt came before this")


def test_an_interrupt_during_the_start_still_stops_what_was_started(monkeypatch: pytest.MonkeyPatch) -> None:
    child, before = Child(), signal.getsignal(signal.SIGINT)

    def start_agent(*args: Any, **options: Any) -> Child:
        signal.raise_signal(signal.SIGINT)  # after the process is there, before anybody has noted it
        return child

    monkeypatch.setattr(launch, "start_agent", start_agent)
    monkeypatch.setattr(foreground, "load_capability", lambda path: None)
    said: list[str] = []
    foreground.run_engines(Path("file"), None, Wanted(engines=1), said.append)
    assert child.stops == 1 and said == ["stopping ..."]
    assert signal.getsignal(signal.SIGINT) == before


def test_what_was_let_go_is_not_stopped() -> None:
    run, gone = Run(None, Wanted(), lambda text: None), []

    class Background(Child):
        def let_go(self) -> None:
            gone.append(self)

    with run.stopping():
        run._started.append(Background())  # type: ignore[arg-type]
        run.let_go()
    assert len(gone) == 1 and gone[0].stops == 0
