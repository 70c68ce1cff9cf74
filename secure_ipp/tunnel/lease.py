"""A user's share in a tunnel: opens it, or joins the others who use it, and holds on until released.

Laws: `open` ends by its time, in a tunnel that stands or in one of `failures`; time in which somebody types a password
counts against nobody; when the keeper dies another one takes its place under the same addresses, as long as the lease
is held; releasing never raises.  A forked child has no part in its parent's lease.
"""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
import threading
import time
import weakref
from pathlib import Path

import msgspec

from secure_ipp import limits
from secure_ipp.errors import ProtocolError, SecureIppError
from secure_ipp.keys.locks import Lock, LockHeld
from secure_ipp.keys.private_files import make_private_dir
from secure_ipp.tunnel import places
from secure_ipp.tunnel.failures import DoorSilent, ForwardingRefused, NoRoute, TunnelLost, told
from secure_ipp.tunnel.messages import FromKeeper, Hold, Lines, Question, Reply, State, Use, send
from secure_ipp.tunnel.prompts import Prompter
from secure_ipp.tunnel.spec import Bootstrap, Spec, forwards

_log = logging.getLogger("secure_ipp.tunnel")
_JOIN_AGAIN_SECONDS = 1.0  # between two tries after a keeper has died
_TRIES = 5  # a keeper that is about to end may be met so often
_POLL_SECONDS = 0.2
_LEAST_SECONDS = 0.1


class Lease:
    """A share in one tunnel.

    Args:
        who: for the list of users.
        prompter: answers what ssh asks; None: nothing is asked.
    """

    def __init__(self, spec: Spec, who: str, prompter: Prompter | None) -> None:
        self._spec = spec
        self._who = who
        self._prompter = prompter
        self._directory = places.root() / spec.name
        self._connection: socket.socket | None = None
        self._lines = Lines(FromKeeper)
        self._released = False
        self._thread: threading.Thread | None = None
        self.state = State("connecting")
        _leases.add(self)

    @property
    def doors(self) -> tuple[str, ...]:
        """What to connect to."""
        return tuple(f"ipc://{forward.local}" for forward in forwards(self._spec.doors, self._directory))

    @property
    def name(self) -> str:
        return self._spec.name

    def open(self, seconds: float) -> None:
        """Have it stand.

        Raises:
            SecureIppError: one of `failures`, or there can be no keeper.
        """
        until = time.monotonic() + seconds
        try:
            for _ in range(_TRIES):
                self._join(until)
                if self._await_up(until):
                    break
            else:
                raise TunnelLost("the tunnel's keeper ended again and again", f"see {self._directory.parent}")
        except BaseException:
            self.release()
            raise
        self._thread = threading.Thread(target=self._watch, name="secure-ipp-tunnel", daemon=True)
        self._thread.start()

    def hold(self, held: bool) -> None:
        """Whether the tunnel stays without users."""
        if self._connection is not None:
            send(self._connection, Hold(held))

    def release(self) -> None:
        """Give it up; the last one ends the tunnel."""
        self._released = True
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                _log.debug("the tunnel's keeper was gone already")
            connection.close()

    def leave_to_parent(self) -> None:
        """In a forked child: have no part in it, so that it ends with the parent."""
        self._released = True
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def hopeless(self) -> SecureIppError | None:
        """Why no connection through it will ever come about, if that is known."""
        if self.state.failure:
            return told(self.state.failure)
        return self._prohibited() if len(self.doors) == 1 else None  # the server may forward to another address

    def _prohibited(self) -> SecureIppError | None:
        refusal = self.state.refusal
        if "prohibited" not in refusal:
            return None
        return ForwardingRefused(
            f"the ssh server {self._spec.route} does not forward to {self._target}: {refusal}",
            "ask its administrator to allow it (AllowTcpForwarding, AllowStreamLocalForwarding, PermitOpen), or use "
            "another ssh server",
        )

    def explain(self, error: SecureIppError) -> SecureIppError:
        """What a connection through the tunnel that failed comes from, if the tunnel knows better."""
        known = self.hopeless() or self._prohibited()
        if known is not None:
            return known
        state = self.state
        if state.condition == "lost":
            return TunnelLost(
                f"the tunnel to {self._spec.route} was lost and did not come back: {state.reason}",
                "see whether that host can be reached (ssh), then connect again",
            )
        if isinstance(error, TimeoutError):
            reason = state.refusal or error.message
            return DoorSilent(
                f"the tunnel to {self._spec.route} stands, and no door answers at {self._target}: {reason}",
                "see whether the cluster runs (`ipcluster list` on its host) and whether that address is reachable "
                "from the ssh server",
            )
        return error

    @property
    def _target(self) -> str:
        return ", ".join(forward.target for forward in forwards(self._spec.doors, self._directory))

    # --- the keeper ------------------------------------------------------------------------------------------

    def _join(self, until: float) -> None:
        """Connect to the keeper; start one if there is none."""
        seconds = max(_LEAST_SECONDS, min(limits.TUNNEL_START_SECONDS, until - time.monotonic()))
        try:
            with Lock(self._directory.with_suffix(".lock"), wait=seconds):
                connection = reach_keeper(self._directory, seconds)
                if connection is None:
                    places.remove(self._directory)
                    make_private_dir(self._directory)
                    start_keeper(self._spec, self._directory)
                    connection = reach_keeper(self._directory, seconds)
        except LockHeld:
            raise TunnelLost(
                "another process opens or closes this tunnel, and has not come to an end", "try again in a moment"
            ) from None
        if connection is None:
            raise TunnelLost("the tunnel's keeper does not answer", f"see {self._directory / 'log'}")
        connection.settimeout(_POLL_SECONDS)
        self._connection, self._lines = connection, Lines(FromKeeper)
        send(connection, Use(self._who, os.getpid(), self._prompter is not None))

    def _await_up(self, until: float) -> bool:
        """False: the keeper ended before it said anything of use."""
        while True:
            for message in self._receive():
                if isinstance(message, Question):
                    until += self._answer(message)
            if self.state.condition == "up":
                return True
            if self.state.condition == "failed":
                raise told(self.state.failure)
            if self._connection is None:
                return False
            if time.monotonic() >= until:
                raise NoRoute(
                    f"the ssh server {self._spec.route} let nobody in within the time allowed"
                    + (f" ({self.state.reason})" if self.state.reason else ""),
                    "see whether it can be reached (ssh), or allow more time (timeout=, --timeout)",
                )

    def _answer(self, question: Question) -> float:
        """Have somebody answer; the seconds that took."""
        began = time.monotonic()
        text = self._prompter.answer(question.prompt) if self._prompter is not None else None
        if self._connection is not None:
            send(self._connection, Reply(question.number, text))
        return time.monotonic() - began

    def _receive(self) -> list[object]:
        """What the keeper says within a moment; its end leaves no connection."""
        connection = self._connection
        if connection is None:
            return []
        try:
            data = connection.recv(65536)
        except TimeoutError:
            return []
        except OSError:
            data = b""
        if not data:
            self._connection = None
            connection.close()
            return []
        found: list[object] = list(self._lines.take(data))
        for message in found:
            if isinstance(message, State):
                self.state = message
        return found

    def _watch(self) -> None:
        """Follow what becomes of it; when its keeper dies, join another."""
        drops = self.state.drops
        while not self._released and self.state.condition != "failed":
            try:
                self._receive()
                if self.state.drops != drops:
                    drops = self.state.drops
                    _log.warning("the tunnel to %s was lost: %s; it is being opened again", self._spec.route,
                                 self.state.reason)
                if self._connection is None and not self._released:
                    self._join_again()
            except (SecureIppError, OSError) as error:
                if isinstance(error, ProtocolError):
                    self.release()
                _log.warning("the tunnel's keeper is gone, and there is no other yet: %s", error)
                time.sleep(_JOIN_AGAIN_SECONDS)

    def _join_again(self) -> None:
        if self.state.condition == "closing":
            self.state = msgspec.structs.replace(
                self.state, condition="failed",
                failure={"code": "tunnel-lost", "message": "the tunnel was closed", "advice": "connect again"},
            )
            return
        _log.warning("the keeper of the tunnel to %s has died; another one is started", self._spec.route)
        self._join(time.monotonic() + limits.TUNNEL_START_SECONDS)
        if self._released:
            self.release()


_leases: weakref.WeakSet[Lease] = weakref.WeakSet()


def _after_fork() -> None:
    for lease in list(_leases):
        lease.leave_to_parent()


os.register_at_fork(after_in_child=_after_fork)


def reach_keeper(directory: Path, seconds: float = limits.TUNNEL_START_SECONDS) -> socket.socket | None:
    """A connection to the keeper of this tunnel; None: there is none."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(seconds)
        connection.connect(str(directory / places.CONTROL))
    except OSError:
        connection.close()
        return None
    return connection


def start_keeper(spec: Spec, directory: Path) -> None:
    """Start a keeper; returns when it listens.

    Raises:
        TunnelLost: it does not.
    """
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "secure_ipp.tunnel.keeper"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, cwd="/", env=_environment(), start_new_session=True,
    )
    line = msgspec.json.encode(Bootstrap(spec, str(directory))) + b"\n"
    try:
        said, complaint = process.communicate(line, limits.TUNNEL_START_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise TunnelLost("the tunnel's keeper did not start in time", "try again on a machine less busy") from None
    if said != b"listening\n":
        reason = complaint.decode("utf-8", "replace").strip().rpartition("\n")[2] or "it ended at once"
        raise TunnelLost(f"the tunnel's keeper did not start: {reason}", f"see {directory / 'log'}")


def _environment() -> dict[str, str]:
    """Ours, and this very package found."""
    package = str(Path(__file__).resolve().parent.parent.parent)
    known = os.environ.get("PYTHONPATH", "")
    if package in known.split(os.pathsep):
        return dict(os.environ)
    return {**os.environ, "PYTHONPATH": package + (os.pathsep + known if known else "")}
