"""Doors are tried, really, with a stranger's key and with a probe's (S2).

libzmq fails open when nobody answers for the gate, so it is not asked whether it works: it is made to show it.
At a door that is a Unix socket both have a proof of their key (S25), and somebody without one tries, too.
Laws: a stranger who is admitted ends the process that owns the door; a probe that gets no answer is an alarm and
nothing more, for a busy machine is no breach.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence

import zmq

from secure_ipp import limits
from secure_ipp.access.prover import Prover
from secure_ipp.errors import PolicyError
from secure_ipp.keys.curve import CurvePublicKey, KeyPair
from secure_ipp.wire.intruder import Verdict, try_door
from secure_ipp.wire.loop import Loop

_STRANGER_SECONDS = 0.2  # how long a stranger's try may go on after the probe was answered
_log = logging.getLogger(__name__)


class SelfTest:
    """Tries doors at once and every `limits.SELF_TEST_SECONDS`, in a thread of its own.

    Args:
        endpoints: as one would connect to them.
        probe: a key that the gate admits as a probe.
        breached: called in the loop's thread when a stranger was admitted.
        passed: called in the loop's thread after a round: whether every probe was answered.
        provers: of the endpoints that take proofs.

    Attributes:
        stranger: the key that must be refused; by it the gate's owner knows our own refusals from others.
    """

    def __init__(
        self, loop: Loop, *, endpoints: Sequence[str], server_key: CurvePublicKey, probe: KeyPair,
        breached: Callable[[PolicyError], None], passed: Callable[[bool], None],
        provers: Mapping[str, Prover] | None = None,
    ) -> None:
        self._loop = loop
        self._endpoints = endpoints
        self._server_key = server_key
        self._probe = probe
        self.stranger = KeyPair.generate()
        self._breached = breached
        self._passed = passed
        self._provers = provers or {}
        self._stopping = threading.Event()
        self._now = threading.Event()  # do not wait for the next round
        self._thread = threading.Thread(target=self._run, name="self-test", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Do not begin another round."""
        self._stopping.set()
        self._now.set()

    def use(self, server_key: CurvePublicKey) -> None:
        """The doors were bound anew, with this key: they are tried at once."""
        self._server_key = server_key
        self._now.set()

    def is_own(self, key: str) -> bool:
        """Whether a refusal of a key of this fingerprint was asked for here."""
        spoilt = self._probe.public.fingerprint if self._provers else ""
        return key in (self.stranger.public.fingerprint, spoilt) and bool(key)

    def _try(self, endpoint: str, keys: KeyPair, *, spoilt: bool = False) -> Verdict:
        proves = self._provers.get(endpoint)
        try:
            if proves is None:
                return try_door(endpoint, self._server_key, keys)
            return try_door(endpoint, self._server_key, keys, proves=proves, spoilt=spoilt)
        except zmq.ZMQError as error:  # descriptors have run out, say: no answer, and no end of the trials
            _log.warning("the door %s could not be tried: %s", endpoint, error.strerror)
            return "silent"

    def _try_as_stranger(self, endpoint: str) -> None:
        unproven = endpoint in self._provers and self._try(endpoint, self._probe, spoilt=True) == "admitted"
        if unproven or self._try(endpoint, self.stranger) == "admitted":
            self._stopping.set()
            error = PolicyError(
                f"the door {endpoint} let a stranger in; it is closed",
                "report this: the gate does not work on this machine", code="breach",
            )
            self._loop.call_threadsafe(lambda: self._breached(error))

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._now.clear()
            key, answered = self._server_key, True
            for endpoint in self._endpoints:
                stranger = threading.Thread(target=self._try_as_stranger, args=(endpoint,), daemon=True)
                stranger.start()
                verdict = self._try(endpoint, self._probe)
                # the gate may leave a stranger without an answer; the probe's answer shows that it is awake
                stranger.join(_STRANGER_SECONDS)
                if self._stopping.is_set():
                    return
                if verdict != "admitted" and key is self._server_key:
                    answered = False
                    if not self._stopping.is_set():
                        _log.warning("the probe of the door %s was not answered: %s", endpoint, verdict)
            if key is not self._server_key:
                continue  # the doors were bound anew meanwhile: this round tells nothing
            self._loop.call_threadsafe(lambda answered=answered: self._passed(answered))  # type: ignore[misc]
            self._now.wait(limits.SELF_TEST_SECONDS if answered else 1.0)
