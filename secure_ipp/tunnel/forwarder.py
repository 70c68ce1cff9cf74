"""sshtunnel's forwarder over a session that we have logged in, with every default of it that is unsafe replaced (S24).

sshtunnel by itself checks no host key, binds all addresses, offers every key it finds, writes passwords in its repr,
passes one direction's end on as the end of both, and selects, which fails above 1024 descriptors.  What is left of it
here is the making, serving and stopping of one server for each forward; connections go through `Pump`.
"""

from __future__ import annotations

import errno
import logging
import os
import select
import socket
import stat
import threading
import time
from pathlib import Path
from typing import Any

import sshtunnel
from paramiko.ssh_exception import SSHException

from secure_ipp import limits
from secure_ipp.errors import EnvironmentProblem
from secure_ipp.keys.strict_json import shown
from secure_ipp.tunnel.interface import Forward
from secure_ipp.tunnel.paramiko_session import ChannelRefused, ForwardChannel, Session, Target

_log = logging.getLogger("secure_ipp.tunnel.paramiko")  # sshtunnel would make a handler of its own otherwise
_ENDED = (OSError, EOFError, SSHException)


class Pump:
    """Carries bytes between a local connection and a channel, each direction by itself, until both have ended."""

    def __init__(self, local: socket.socket, channel: ForwardChannel) -> None:
        self._local = local
        self._channel = channel

    def run(self) -> None:
        """Returns when both directions have ended, or one of the two ends is gone."""
        outward = threading.Thread(target=self._outward, name="tunnel-out", daemon=True)
        outward.start()
        try:
            self._inward()
        finally:
            self._cut()
            self._channel.close()  # wakes a direction that waits for the server to read
            outward.join()

    def _inward(self) -> None:
        """From the channel to the local connection."""
        local, channel = self._local, self._channel
        try:
            while data := channel.recv(limits.SSH_READ_BYTES):
                local.sendall(data)
            local.shutdown(socket.SHUT_WR)
        except _ENDED:
            return
        channel.await_close()  # the other direction may have much to say yet

    def _outward(self) -> None:
        """From the local connection to the channel."""
        local, channel = self._local, self._channel
        try:
            while data := local.recv(limits.SSH_READ_BYTES):
                channel.sendall(memoryview(data))
            channel.shutdown_write()
            gone = select.poll()
            gone.register(local, 0)  # tells of a hang-up alone
            gone.poll()  # nobody reads any more
        except _ENDED:
            pass
        channel.close()

    def _cut(self) -> None:
        try:
            self._local.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


class _Handler(sshtunnel._ForwardHandler):  # type: ignore[misc]
    """One local connection."""

    def handle(self) -> None:
        session: Session = self.ssh_transport
        try:
            channel = session.open_forward(self.remote_address, limits.SSH_CHANNEL_SECONDS)
        except (ChannelRefused, *_ENDED):
            return
        Pump(self.request, channel).run()


class _Server(sshtunnel._StreamForwardServer):  # type: ignore[misc]
    """Listens at one Unix socket that is this user's alone; a thread for each connection."""

    request_queue_size = limits.BACKLOG

    def __init__(self, *args: Any, **more: Any) -> None:
        self._mutex = threading.Lock()
        self._served: dict[threading.Thread, socket.socket] = {}
        super().__init__(*args, **more)

    def server_bind(self) -> None:
        super().server_bind()
        os.chmod(self.server_address, 0o600)  # before it listens; the directory is 0700

    def get_request(self) -> Any:
        try:
            return super().get_request()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                time.sleep(limits.SSH_WATCH_SECONDS)  # it would be asked again at once
            raise

    def verify_request(self, request: Any, client_address: Any) -> bool:
        with self._mutex:
            return len(self._served) < limits.SSH_CHANNELS

    def process_request(self, request: socket.socket, client_address: Any) -> None:
        thread = threading.Thread(target=self._serve, args=(request, client_address), name="tunnel-in", daemon=True)
        with self._mutex:
            self._served[thread] = request
        try:
            thread.start()
        except RuntimeError:  # no more threads to be had
            with self._mutex:
                del self._served[thread]
            raise

    def _serve(self, request: socket.socket, client_address: Any) -> None:
        try:
            self.finish_request(request, client_address)
        except Exception as error:  # noqa: BLE001  edge of a thread
            _log.debug("a connection failed: %r", error)
        finally:
            self.shutdown_request(request)
            with self._mutex:
                self._served.pop(threading.current_thread(), None)

    def handle_error(self, request: Any, client_address: Any) -> None:
        _log.debug("a connection was not served")

    def server_close(self) -> None:
        """Stop listening, and end the connections and their threads."""
        super().server_close()
        with self._mutex:
            served = dict(self._served)
        for request in served.values():
            try:
                request.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        until = time.monotonic() + limits.CLOSE_SECONDS
        for thread in served:
            thread.join(max(until - time.monotonic(), 0))


class Forwarder(sshtunnel.SSHTunnelForwarder):  # type: ignore[misc]
    """Forwards over a session that is logged in.

    Args:
        session: its host's key was judged; it is checked once more to be `host_key`.
        host_key: the verified key, a `paramiko.PKey`.
        forwards: what to listen for.

    Raises:
        EnvironmentProblem: it cannot listen there.
    """

    skip_tunnel_checkup = True
    is_alive: bool
    tunnel_is_up: dict[str, bool]

    def __init__(self, session: Session, host_key: Any, forwards: tuple[Forward, ...]) -> None:
        self._session = session
        try:
            self._prepare(host_key, forwards)
        except (ValueError, AssertionError, OSError) as error:
            raise EnvironmentProblem(f"the tunnel cannot listen: {shown(str(error))}",
                                     "look at its directory's mode and path") from None

    def _prepare(self, host_key: Any, forwards: tuple[Forward, ...]) -> None:
        for forward in forwards:
            _remove_socket(forward.local)
        super().__init__(
            ssh_address_or_host=("127.0.0.1", 22),  # never connected to: the session is there
            ssh_config_file=None, ssh_host_key=host_key, ssh_password=None, ssh_pkey=None, ssh_proxy=None,
            ssh_username="nobody", local_bind_addresses=[str(forward.local) for forward in forwards],
            remote_bind_addresses=[_target(forward) for forward in forwards], logger=_log, mute_exceptions=False,
            set_keepalive=0.0, threaded=True, compression=False, allow_agent=False, host_pkey_directories=[],
        )

    @staticmethod
    def _consolidate_auth(*_: Any, **__: Any) -> tuple[None, list[Any]]:
        return None, []  # sshtunnel logs in nowhere

    def _get_transport(self) -> Any:
        raise sshtunnel.BaseSSHTunnelForwarderError("no connection is made here")

    def _connect_to_gateway(self) -> None:
        session = self._session
        if not session.is_authenticated() or session.host_key.asbytes() != self.ssh_host_key.asbytes():
            raise sshtunnel.BaseSSHTunnelForwarderError("the session is not the one whose host key was verified")
        self._transport = session

    def _make_ssh_forward_handler_class(self, remote_address_: Target) -> Any:
        return type("Handler", (_Handler,), {"remote_address": remote_address_, "ssh_transport": self._session,
                                             "logger": _log})

    def _make_stream_ssh_forward_server_class(self, remote_address_: Target) -> Any:
        return _Server

    def _make_ssh_forward_server_class(self, remote_address_: Target) -> Any:
        raise sshtunnel.BaseSSHTunnelForwarderError("no TCP port is bound here")

    def listen(self) -> None:
        """Have every forward listen.

        Raises:
            EnvironmentProblem: one cannot.
        """
        wanted = len(self._local_binds)
        try:
            self.start()
        except (sshtunnel.BaseSSHTunnelForwarderError, OSError) as error:
            raise EnvironmentProblem(f"the tunnel cannot listen: {shown(str(error))}", "try again") from None
        if len(self._server_list) != wanted:
            raise EnvironmentProblem("the tunnel cannot listen at its socket", "look at its directory's mode and path")

    def end(self) -> None:
        """Stop listening, and end all connections; the session's end is its owner's."""
        while self._server_list:
            server = self._server_list.pop()
            if self.is_alive:
                server.shutdown()
            server.server_close()
            _remove_socket(Path(server.server_address))
        self.tunnel_is_up = {}
        self.is_alive = False

    def __str__(self) -> str:
        return f"<Forwarder of {len(self._server_list)}>"  # sshtunnel's has the password

    __repr__ = __str__

    def __del__(self) -> None:
        pass  # whoever made it ends it


def _target(forward: Forward) -> Target:
    return (forward.path, 0) if forward.path else (forward.host, forward.port)


def _remove_socket(path: Path) -> None:
    """Remove what an earlier tunnel left."""
    try:
        if stat.S_ISSOCK(path.lstat().st_mode):
            path.unlink()
    except FileNotFoundError:
        pass


