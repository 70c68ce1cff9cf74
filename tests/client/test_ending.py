"""A client says a day and an hour before that its key ends."""

from __future__ import annotations

import threading
import time
import warnings
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secure_ipp.client import session as session_module
from secure_ipp.client.connecting import warn_of_end
from secure_ipp.client.ending import BEFORE_SECONDS, Ending
from secure_ipp.client.session import Session
from secure_ipp.keys.capability import Capability, sign_capability
from secure_ipp.keys.curve import KeyPair
from secure_ipp.keys.issuer import IssuerKey

END = 1_900_000_000
DAY, HOUR = BEFORE_SECONDS


def capability(expires: int = END) -> Capability:
    return sign_capability(
        IssuerKey.generate(), keys=KeyPair.generate(), cluster="lab", cluster_id="C" * 22, role="client", name="ada",
        rights=("task",), expires=expires, server_keys=(KeyPair.generate().public,), door=("tcp://127.0.0.1:9",),
    )


FILE = capability()


def test_a_key_that_never_ends_is_never_spoken_of() -> None:
    assert Ending(capability(0)).look(END * 2.0) == ("", None)


def test_it_is_said_a_day_and_an_hour_before_and_how_to_go_on() -> None:
    ending = Ending(FILE)
    assert ending.look(END - 2 * DAY)[0] == ""
    said, wait = ending.look(END - DAY)
    assert "1 day" in said and "secure-ipp keys renew ada" in said and "secure-ipp keys accept" in said
    assert wait is not None and 0 < wait <= 60
    assert ending.look(END - DAY + 1)[0] == ""
    said, wait = ending.look(END - HOUR)
    assert "1 hour" in said and wait is None
    assert ending.look(END - 1) == ("", None)


def test_whoever_starts_late_is_told_once() -> None:
    said, wait = Ending(FILE).look(END - 60)
    assert "1 minute" in said and wait is None


@given(st.lists(st.floats(END - 3 * DAY, END), min_size=1).map(sorted))
def test_each_is_said_once_whenever_one_looks(times: list[float]) -> None:
    ending = Ending(FILE)
    said = [(now, text) for now in times if (text := ending.look(now)[0])]
    passed = {before for before in BEFORE_SECONDS if times[-1] >= END - before}
    assert len(said) <= len(passed) and bool(said) == bool(passed)


@given(st.floats(END - 3 * DAY, END))
def test_it_looks_again_in_time(now: float) -> None:
    ending, steps = Ending(FILE), 0
    said, wait = ending.look(now)
    heard = [] if not said else [now]
    while wait is not None and steps < 10_000:
        assert wait > 0
        now, steps = now + wait, steps + 1
        said, wait = ending.look(now)
        heard += [now] if said else []
    assert all(min(abs(END - before - at) for before in BEFORE_SECONDS) < 1e-3 for at in heard[1:])
    assert heard


def test_a_session_warns_on_its_own_thread_for_callbacks(monkeypatch: pytest.MonkeyPatch) -> None:
    session = Session(capability(int(time.time() + HOUR) + 1), None)  # type: ignore[arg-type]
    heard, calls = threading.Event(), []

    def call(callback: Any) -> None:
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always")
            callback()
        calls.extend(str(one.message) for one in found)
        heard.set()

    monkeypatch.setattr(session.receiver.callbacks, "call", call)
    monkeypatch.setattr(session_module.Session, "_look_for_owner", lambda self: None)
    session.ends_soon, session._look_again = session._ending.look(time.time())
    assert "1 hour" in session.ends_soon
    monkeypatch.setattr(session_module.time, "time", lambda: session.capability.expires - HOUR + 0.5)
    session._look_for_end()
    assert heard.is_set() and "secure-ipp keys renew ada" in calls[0]
    session._loop.close()


def test_a_client_warns_at_its_start() -> None:
    with pytest.warns(RuntimeWarning, match="ends"):
        warn_of_end("the key ends")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_end("")
