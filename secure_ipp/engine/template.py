"""The template: a warm process that only forks engines, and waits for them.

It is started by exec before the agent has read its join key, and never holds a key itself: what an engine must know
travels through the engine's own socket, which the template hands on unread (S12).

Laws.
- It forks only while it has one thread; else it refuses and says so, and the agent spawns engines instead.
- It dies with its agent, and its engines die with it.
- It alone waits for its children, and it alone signals them: a process id that it names is that child.
"""

from __future__ import annotations

import gc
import importlib
import logging
import os
import select
import signal
import socket
import sys

import msgspec

from secure_ipp import hardening
from secure_ipp.engine import apart
from secure_ipp.engine.bootstrap import Lines, TemplateEvent, TemplateOrder, send_line
from secure_ipp.engine.logs import log_to

log = logging.getLogger("secure_ipp.engine")
_NUMERIC_THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")


class Template:
    """Serves the agent at the other end of a socket."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._lines = Lines(channel)
        self._children: dict[int, str] = {}
        self._pids: dict[str, int] = {}

    def serve(self) -> tuple[int, int] | None:
        """Do as told until the agent is gone.

        Returns:
            None at the end; in a forked child, its descriptors (socket, page).
        """
        wake_read, wake_write = os.pipe()
        for descriptor in (wake_read, wake_write):
            os.set_blocking(descriptor, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        send_line(self._channel, TemplateEvent("ready"))
        while True:
            ready: list[object] = list(select.select([self._channel.fileno(), wake_read], [], [])[0])
            if wake_read in ready:
                os.read(wake_read, 4096)
                self._reap()
            if self._channel.fileno() not in ready:
                continue
            for line in self._lines.read():
                child = self._obey(msgspec.json.decode(line, type=TemplateOrder))
                if child is not None:
                    signal.set_wakeup_fd(-1)
                    return child
            if self._lines.ended:
                self._end()
                return None

    def _obey(self, order: TemplateOrder) -> tuple[int, int] | None:
        if order.do == "preload":
            preload(order.modules)
        elif order.do == "signal":
            pid = self._pids.get(order.uuid)
            if pid is not None:
                os.kill(pid, order.signum)
        elif order.do == "fork":
            return self._fork(order.uuid)
        return None

    def _fork(self, uuid: str) -> tuple[int, int] | None:
        engine_socket, page = self._lines.descriptors[:2]
        del self._lines.descriptors[:2]
        count = apart.threads()
        if count > 1:
            reason = f"the template has {count} threads (a preloaded module started them), so it cannot fork safely"
            send_line(self._channel, TemplateEvent("refused", uuid, reason=reason))
        else:
            parent = os.getpid()
            pid = os.fork()
            if pid == 0:
                hardening.end_with_parent(parent)
                return engine_socket, page
            self._children[pid] = uuid
            self._pids[uuid] = pid
            send_line(self._channel, TemplateEvent("forked", uuid, pid))
        os.close(engine_socket)
        os.close(page)
        return None

    def _reap(self) -> None:
        while self._children:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            uuid = self._children.pop(pid, "")
            if uuid:
                del self._pids[uuid]
                code = os.waitstatus_to_exitcode(status)
                send_line(self._channel, TemplateEvent("exited", uuid, pid, code))

    def _end(self) -> None:
        for pid in self._children:
            os.kill(pid, signal.SIGKILL)
        for pid in list(self._children):
            os.waitpid(pid, 0)


def preload(modules: list[str]) -> None:
    """Import what engines are to share; numeric libraries with one thread each, since engines fill the cores."""
    from secure_ipp.engine.shell import add_working_directory

    add_working_directory()
    ours = [name for name in _NUMERIC_THREADS if name not in os.environ]
    os.environ.update(dict.fromkeys(ours, "1"))
    for name in modules:
        try:
            importlib.import_module(name)
        except Exception:  # a module that cannot be imported is the business of the tasks that need it
            log.exception("cannot preload %s", name)
    for name in ours:
        del os.environ[name]


def main(descriptor: int, parent: int) -> None:
    """Run the template over an inherited socket."""
    hardening.end_with_parent(parent)
    os.setsid()  # Ctrl-C at the terminal is for the agent to hear
    log_to(None, "WARNING")
    import secure_ipp.engine.process  # what every engine needs is imported once, here
    from secure_ipp.engine.shell import build_shell

    build_shell()
    gc.collect()
    gc.freeze()  # what is shared stays shared: engines' collections do not touch it
    channel = socket.socket(fileno=descriptor)
    child = Template(channel).serve()
    if child is None:
        return
    channel.detach()
    apart.become_engine(child)
    secure_ipp.engine.process.run_engine(*child)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
