"""The back end for machines without the ssh program: paramiko logs in, sshtunnel's forwarder carries.

This module imports neither before it has to: both come with the extra ``ssh``.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from secure_ipp import limits
from secure_ipp.tunnel.failures import NoRoute, NoSsh
from secure_ipp.tunnel.interface import Asker, BackendName, Facts, Order

if TYPE_CHECKING:
    from secure_ipp.tunnel.forwarder import Forwarder
    from secure_ipp.tunnel.paramiko_login import Way


class Paramiko:
    """One login through paramiko; an `interface.Backend`."""

    name: BackendName = "paramiko"

    def __init__(self, order: Order, asker: Asker) -> None:
        self._order = order
        self._asker = asker
        self._mutex = threading.Lock()
        self._way: Way | None = None
        self._forwarder: Forwarder | None = None
        self._stopping = threading.Event()
        self._watcher: threading.Thread | None = None
        self._why = ""

    def connect(self, until: float) -> Facts:
        """Log in, verify, and have every forward listen; see `interface.Backend`."""
        try:
            from secure_ipp.tunnel import forwarder, host_keys, paramiko_login
        except ImportError as error:
            raise NoSsh(f"the paramiko back end cannot be used: {error}", "pip install 'secure-ipp[ssh]'") from None
        way = paramiko_login.Way()
        with self._mutex:
            if self._stopping.is_set():
                raise NoRoute("the login was given up", "")
            self._way = way
        try:
            paramiko_login.log_in(way, self._order, self._asker, until)
            if time.monotonic() >= until:
                raise NoRoute(f"the login to {self._order.route} was not done in time", "allow more time")
            with self._mutex:
                if way.given_up.is_set():
                    raise NoRoute("the login was given up", "")
                session = way.last
                self._forwarder = forwarder.Forwarder(session, session.host_key, self._order.forwards)
                self._forwarder.listen()
                facts = Facts(host_keys.fingerprint(session.host_key.asbytes()), session.exchange, way.known_by)
                self._watcher = threading.Thread(target=self._watch, name="tunnel-watch", daemon=True)
                self._watcher.start()
        except BaseException:
            self.close()
            raise
        return facts

    def _watch(self) -> None:
        """Give up a connection over which nothing comes any more, though the server was asked."""
        way = self._way
        while way is not None and way.sessions and not self._stopping.wait(limits.SSH_WATCH_SECONDS):
            session = way.last
            if session.ended.is_set():
                return
            if session.silent_for() > limits.SSH_SILENT_SECONDS:
                self._why = f"nothing came from the ssh server for {limits.SSH_SILENT_SECONDS:.0f} s"
                from secure_ipp.tunnel.paramiko_login import end

                end(session)
                return

    def lost(self, seconds: float) -> str:
        """Wait so long at most; why the connection has ended, or "" while it stands."""
        way = self._way
        if way is None or not way.sessions:
            return "it was closed"
        session = way.last
        if not session.ended.wait(max(seconds, 0)):
            return ""
        return self._why or session.goodbye or "the ssh server ended the connection, or the network did"

    def refusal(self) -> str:
        """Why the server last refused to forward a connection, in its words; "" if it never did."""
        way = self._way
        return way.last.refused if way is not None and way.sessions else ""

    def close(self) -> None:
        """End it; also while `connect` is under way in another thread, which ends soon then."""
        with self._mutex:
            self._stopping.set()
            forwarder, self._forwarder = self._forwarder, None
            watcher, self._watcher = self._watcher, None
            if self._way is not None:
                self._way.end()  # first: threads that write to it come back
            if forwarder is not None:
                forwarder.end()
            if watcher is not None and watcher is not threading.current_thread():
                watcher.join(limits.CLOSE_SECONDS)


