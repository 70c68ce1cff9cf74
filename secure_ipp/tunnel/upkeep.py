"""Opens a tunnel, and opens it again when it falls: one thread, one login at a time.

Laws: the host key of the first login is pinned for all later ones; what a try cannot mend (`failures.FINAL`) ends it,
as does any failure of the first login; else it is tried again, each time after a longer wait, until it is told to stop.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path

from secure_ipp import limits
from secure_ipp.errors import SecureIppError
from secure_ipp.tunnel.failures import FINAL, TunnelLost, tell
from secure_ipp.tunnel.interface import Asker, Backend, Facts, Order
from secure_ipp.tunnel.messages import State
from secure_ipp.tunnel.questions import Questions
from secure_ipp.tunnel.spec import Spec

_log = logging.getLogger("secure_ipp.tunnel")
_LOOK_SECONDS = 0.1


class Upkeep:
    """The thread.

    Args:
        make: a back end for an order.
        told: called on this thread at each change; the fields that only the keeper knows are empty.
    """

    def __init__(
        self, spec: Spec, directory: Path, make: Callable[[Order, Asker], Backend], asker: Questions,
        told: Callable[[State], None],
    ) -> None:
        self._spec = spec
        self._directory = directory
        self._make = make
        self._asker = asker
        self._told = told
        self._stopping = threading.Event()
        self._pinned = ""
        self._drops = 0
        self._thread = threading.Thread(target=self._run, name="upkeep", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, seconds: float) -> bool:
        """End the login and the thread; whether they ended in time."""
        self._stopping.set()
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            self._keep_up()
        except Exception as error:  # noqa: BLE001  the edge of the thread: its users must hear of it
            _log.exception("the tunnel's upkeep failed")
            self._fail(TunnelLost(f"the tunnel's keeper failed: {type(error).__name__}", "see its log"))

    def _keep_up(self) -> None:
        tries = 0
        seconds = limits.TUNNEL_CONNECT_SECONDS + limits.TUNNEL_ANSWER_SECONDS  # somebody may have to type
        while not self._stopping.is_set():
            if not self._pinned:
                self._tell("connecting")
            self._asker.new_login()
            try:
                backend = self._make(self._spec.order(self._directory, self._pinned), self._asker)
                facts = backend.connect(time.monotonic() + seconds)
            except SecureIppError as error:
                if not self._pinned or isinstance(error, FINAL):
                    self._fail(error)
                    return
                _log.warning("the tunnel cannot be opened again yet: %s", error.message)
                self._tell("lost", reason=error.message)
            else:
                tries, self._pinned, seconds = 0, facts.host_key, limits.TUNNEL_CONNECT_SECONDS
                reason = self._watch(backend, facts)
                backend.close()
                if self._stopping.is_set():
                    return
                self._drops += 1
                _log.warning("the tunnel is lost: %s", reason)
                self._tell("lost", reason=reason)
            wait = min(limits.TUNNEL_RETRY_MAX_SECONDS, limits.TUNNEL_RETRY_FIRST_SECONDS * 2 ** min(tries, 10))
            tries += 1
            self._stopping.wait(wait)

    def _watch(self, backend: Backend, facts: Facts) -> str:
        """While it stands; why it does not any more."""
        _log.info("the tunnel is up: host key %s, exchange %s", facts.host_key, facts.exchange)
        said: str | None = None
        while not self._stopping.is_set():
            refusal = backend.refusal()
            if refusal != said:
                said = refusal
                self._tell("up", refusal=refusal, facts=facts)
            reason = backend.lost(_LOOK_SECONDS)
            if reason:
                return reason
        return ""

    def _fail(self, error: SecureIppError) -> None:
        _log.error("the tunnel is given up: %s", error.message)
        self._told(State("failed", error.message, tell(error), since=time.time(), drops=self._drops))

    def _tell(self, condition: str, reason: str = "", refusal: str = "", facts: Facts | None = None) -> None:
        self._told(
            State(
                condition, reason, refusal=refusal, since=time.time(), drops=self._drops,  # type: ignore[arg-type]
                host_key=facts.host_key if facts else "", exchange=facts.exchange if facts else "",
                known_by=facts.known_by if facts else "",
            )
        )
