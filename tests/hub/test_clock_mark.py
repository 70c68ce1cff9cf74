"""The trusted time: never back, not over a jump, over restarts and reboots (S17)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secure_ipp import limits
from secure_ipp.errors import EnvironmentProblem
from secure_ipp.hub.clock import Clock, read_clocks
from secure_ipp.hub.clock_mark import Mark, MarkedClock, Reading
from secure_ipp.keys.places import ClusterPlace
from secure_ipp.keys.private_files import make_private_dir

HOUR = 3600.0
WALL = 1_800_000_000.0


def at(steady: float, wall: float | None = None, boot: str = "boot") -> Reading:
    """`steady` seconds after the start, when the wall clock says so, or what it should."""
    return Reading(WALL + steady if wall is None else wall, 1000.0 + steady, boot)


def started(mark: Mark | None = None, now: Reading | None = None) -> MarkedClock:
    return MarkedClock(mark, at(0) if now is None else now)


def test_a_clock_set_back_changes_nothing() -> None:
    clock = started()
    assert clock.read(at(10)) == WALL + 10
    assert clock.read(at(20, WALL - 30 * HOUR)) == WALL + 20
    assert clock.behind == pytest.approx(30 * HOUR + 20)
    assert clock.read(at(30)) == WALL + 30
    assert clock.behind == 0


def test_a_small_step_ahead_is_followed_and_a_jump_is_not_until_it_is_accepted() -> None:
    clock = started()
    assert clock.read(at(1, WALL + 600)) == WALL + 600
    jumped = WALL + 600 + 10 * HOUR
    assert clock.read(at(2, jumped)) == WALL + 601
    assert clock.jump == pytest.approx(10 * HOUR - 1)
    assert clock.read(at(102, jumped + 100)) == WALL + 701, "it goes on by itself"
    assert clock.accept(at(103, jumped + 101)) == jumped + 101
    assert clock.jump == 0


def test_a_jump_that_is_taken_back_is_forgotten() -> None:
    clock = started()
    clock.read(at(1, WALL + 10 * HOUR))
    assert clock.jump
    assert clock.read(at(5)) == WALL + 5
    assert clock.jump == 0


def test_a_restart_of_the_hub_is_no_gap_whatever_the_wall_clock_was_set_to() -> None:
    mark = started().mark(at(10))
    assert started(mark, at(50, WALL - 5 * HOUR)).read(at(50, WALL - 5 * HOUR)) == WALL + 50
    later = started(mark, at(50, WALL + 5 * HOUR))
    assert later.jump
    assert later.read(at(60, WALL + 5 * HOUR)) == WALL + 60


def test_after_a_reboot_the_wall_clock_is_followed_but_never_back() -> None:
    mark = started().mark(at(10))
    assert started(mark, at(0, WALL + 100 * HOUR, "another")).read(at(0, WALL + 100 * HOUR, "another")) == (
        WALL + 100 * HOUR
    )
    assert started(mark, at(0, WALL - HOUR, "another")).read(at(0, WALL - HOUR, "another")) == WALL + 10


def test_a_reboot_accepts_no_jump_that_was_waiting_for_the_owner() -> None:
    clock = started()
    clock.read(at(1, WALL + 10 * HOUR))
    mark = clock.mark(at(2, WALL + 10 * HOUR))
    assert mark.waiting
    again = started(mark, at(0, WALL + 11 * HOUR, "another"))
    assert again.jump
    assert again.read(at(5, WALL + 11 * HOUR, "another")) == WALL + 2 + 5


@given(st.lists(st.tuples(st.floats(0, 1e6), st.floats(0, 4e9), st.sampled_from("rsa")), max_size=30))
def test_it_never_goes_back_and_never_jumps_by_itself(steps: list[tuple[float, float, str]]) -> None:
    """Whatever the wall clock says, over restarts (r), and when the owner accepts (a)."""
    clock, steady = started(), 0.0
    last = clock.read(at(0))
    for passed, wall, what in steps:
        steady += passed
        now = at(steady, wall)
        if what == "r":
            clock = MarkedClock(clock.mark(now), now)
        found = clock.accept(now) if what == "a" else clock.read(now)
        assert found >= last
        if what != "a":
            assert found - last <= passed + limits.CLOCK_JUMP_SECONDS + 1
        last = found


@pytest.fixture
def place(home: Path) -> ClusterPlace:
    found = ClusterPlace("default", home)
    make_private_dir(found.dir)
    return found


def test_the_mark_outlives_the_process(place: ClusterPlace) -> None:
    real = read_clocks()
    ahead = real._replace(wall=real.wall + 1800)
    first = Clock(place, lambda: ahead)
    first.keep()
    assert Clock(place).now() >= ahead.wall
    assert Clock(place).behind > 1700
    assert os.stat(place.durable_dir() / "clock.mark").st_mode & 0o777 == 0o600


def test_a_damaged_mark_is_an_error_that_says_what_to_do(place: ClusterPlace) -> None:
    Clock(place).keep()
    path = place.durable_dir() / "clock.mark"
    path.write_bytes(b'{"time": 1')
    with pytest.raises(EnvironmentProblem) as caught:
        Clock(place)
    assert caught.value.code == "clock-mark"
    assert str(path) in caught.value.advice or str(path) in caught.value.message


def test_a_full_disk_holds_nothing_up(place: ClusterPlace, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(place)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("secure_ipp.hub.clock.write_private", full)
    clock.keep_sometimes()
    assert clock.now() > 0
