"""The thread that runs users' callbacks."""

from __future__ import annotations

import threading
import time

from secure_ipp.client.callbacks import Callbacks


def test_settling_waits_for_what_was_given():
    callbacks, ran = Callbacks(), []
    callbacks.settle(5)  # nothing was ever given
    callbacks.call(lambda: time.sleep(0.1))
    callbacks.call(lambda: ran.append("last"))
    callbacks.settle(5)
    assert ran == ["last"]
    callbacks.end()


def test_settling_gives_up_and_never_waits_for_itself():
    callbacks, go, done = Callbacks(), threading.Event(), threading.Event()
    callbacks.call(go.wait)
    callbacks.settle(0.01)
    callbacks.call(lambda: callbacks.settle(60))
    callbacks.call(done.set)
    go.set()
    assert done.wait(5)
    callbacks.end()
    callbacks.settle(60)
