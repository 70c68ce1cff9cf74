"""Another user of the same machine gets nothing: no file, no directory, no socket, no process (S9, S10, S29, S30).

The other user is this test process's own child, which has put its rights away for good; what it is given to try is
what `ls`, `cat` and `connect` would try.  Each wall is tried alone too: the directories are opened on purpose, and the
sockets' own modes must hold; those are opened on purpose, and who is asked must ask back who is there.
"""

from __future__ import annotations

import errno
import json
import os
import pwd
import signal
import socket
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from secure_ipp.errors import PrivateFileError
from secure_ipp.keys.capability import load_capability
from secure_ipp.keys.private_files import make_private_dir, read_private
from tests.running import RunningCluster, short_directory, wait_until

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(sys.platform == "win32" or os.geteuid() != 0, reason="only root can become another user"),
]

ATTEMPT_SECONDS = 20


def as_another_user(attempt: Callable[[], Any]) -> Any:
    """What comes of it when somebody else tries; an error comes as its name, such as "EACCES"."""
    other = pwd.getpwnam("nobody")
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:  # nothing may be imported from here on: the other user cannot read our interpreter
        signal.alarm(ATTEMPT_SECONDS)
        os.setgroups([])
        os.setgid(other.pw_gid)
        os.setuid(other.pw_uid)
        try:
            found: Any = attempt()
        except OSError as error:
            found = errno.errorcode.get(error.errno or 0, repr(error))
        except BaseException as error:
            found = repr(error)
        os.write(writing, json.dumps(found).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        said = pipe.read()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    return json.loads(said)


def read(path: Path) -> str:
    descriptor = os.open(path, os.O_RDONLY)
    os.close(descriptor)
    return "read"


def write(path: Path) -> str:
    descriptor = os.open(path, os.O_WRONLY)
    os.close(descriptor)
    return "written"


def put(directory: Path) -> str:
    os.close(os.open(directory / "planted", os.O_WRONLY | os.O_CREAT))
    return "put"


def say(path: str, words: bytes = b'{"do":"status"}\n') -> str:
    """Connect, say something, and hear what comes back."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(5)
        connection.connect(path)
        try:
            connection.sendall(words)
            return connection.recv(4096).decode("latin-1")
        except (BrokenPipeError, ConnectionResetError):
            return ""


@contextmanager
def opened(*changes: tuple[Path, int]) -> Iterator[None]:
    """With other modes for a while."""
    before = [(path, stat.S_IMODE(path.stat().st_mode)) for path, _ in changes]
    try:
        for path, mode in changes:
            path.chmod(mode)
        yield
    finally:
        for path, mode in before:
            path.chmod(mode)


@pytest.fixture
def sockets_of(cluster: RunningCluster) -> dict[str, Path]:
    place = cluster.place
    found = {"control": place.control_socket(), "link": place.hub_socket()}
    assert all(path.is_socket() for path in found.values())
    return found


def below(cluster: RunningCluster) -> list[Path]:
    """Everything that a running cluster has on disk, but files on their way into place, which come and go."""
    found = [cluster.home, *cluster.home.rglob("*")]
    runtime = cluster.place.runtime_path
    found += [runtime, *runtime.rglob("*")]
    return sorted(path for path in set(found) if path.suffix != ".new")


def test_the_other_user_is_another_and_may_do_what_everybody_may(tmp_path: Path) -> None:
    """Else everything below would pass for the wrong reason."""
    assert as_another_user(os.geteuid) == pwd.getpwnam("nobody").pw_uid
    assert as_another_user(lambda: read(Path("/proc/self/stat"))) == "read"
    public = short_directory()
    with opened((public, 0o755)):
        (public / "note").write_text("for all")
        assert as_another_user(lambda: read(public / "note")) == "read"
        listener = socket.socket(socket.AF_UNIX)
        with listener:
            listener.bind(str(public / "open.sock"))
            listener.listen(1)
            (public / "open.sock").chmod(0o666)
            assert as_another_user(lambda: socket.socket(socket.AF_UNIX).connect(str(public / "open.sock"))) is None


def test_no_file_can_be_read_or_written_and_no_directory_listed(cluster: RunningCluster) -> None:
    cluster.client()[:].apply_sync(os.getpid)
    paths = below(cluster)
    assert {"ipcontroller-client.json", "ipcontroller-engine.json", "server.key", "issuer.key", "registry.json",
            "state.json", "hub.log", "journal.key", "control.sock"} <= {path.name for path in paths}
    for path in paths:
        mode = stat.S_IMODE(path.lstat().st_mode)
        assert mode & 0o077 == 0 and path.lstat().st_uid == os.geteuid(), f"{path} has mode {mode:o}"
        if path.is_dir():
            tried = as_another_user(lambda path=path: os.listdir(path)), as_another_user(lambda path=path: put(path))
        else:
            tried = as_another_user(lambda path=path: read(path)), as_another_user(lambda path=path: write(path))
        assert tried == ("EACCES", "EACCES"), path


def test_files_do_not_rest_on_the_directories_alone(cluster: RunningCluster) -> None:
    directories = [path for path in below(cluster) if path.is_dir()]
    files = [path for path in below(cluster) if path.is_file()]
    with opened(*((path, 0o755) for path in directories)):
        for path in files:
            assert as_another_user(lambda path=path: read(path)) == "EACCES", path


@pytest.mark.parametrize("name", ["control", "link"])
def test_no_socket_can_be_connected_to(
    cluster: RunningCluster, sockets_of: dict[str, Path], name: str
) -> None:
    path = sockets_of[name]
    assert as_another_user(lambda: say(str(path))) == "EACCES"
    above = [directory for directory in path.parents if directory.is_relative_to(cluster.home)]
    with opened(*((directory, 0o755) for directory in above)):
        assert as_another_user(lambda: say(str(path))) == "EACCES"  # by the socket's own mode
    assert cluster.status()["scheduler"]["connected"]


def test_the_control_socket_asks_who_is_there(cluster: RunningCluster, sockets_of: dict[str, Path]) -> None:
    path = sockets_of["control"]
    above = [directory for directory in path.parents if directory.is_relative_to(cluster.home)]
    with opened(*((directory, 0o755) for directory in above), (path, 0o666)):
        assert as_another_user(lambda: say(str(path))) == ""
        assert json.loads(say(str(path)))  # while its owner is answered
    log = cluster.place.log_dir / "hub.log"
    wait_until(lambda: f"user {pwd.getpwnam('nobody').pw_uid} at the control socket" in log.read_text(), 5)


def test_the_link_asks_for_a_key(cluster: RunningCluster, sockets_of: dict[str, Path]) -> None:
    """Even through an open socket only Curve is spoken there: a plain greeting gets the hub's greeting, and no more."""
    path = sockets_of["link"]
    above = [directory for directory in path.parents if directory.is_relative_to(cluster.home)]
    signature, rest = b"\xff" + bytes(8) + b"\x7f\x03", b"\x01NULL" + bytes(16 + 1 + 31)
    ready = b"\x04\x19\x05READY\x0bSocket-Type\x00\x00\x00\x06DEALER"

    def greet() -> list[str]:
        heard = b""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(5)
            connection.connect(str(path))
            connection.sendall(signature)
            while len(heard) < 64:  # ZMTP 3.1: signature, version, mechanism (20 octets), filler
                heard += connection.recv(64)
            try:
                connection.sendall(rest + ready)
                while piece := connection.recv(4096):
                    heard += piece
            except ConnectionError:
                pass
        return [heard[12:32].rstrip(b"\0").decode("latin-1"), heard[64:].hex()]

    with opened(*((directory, 0o755) for directory in above), (path, 0o666)):
        mechanism, more = as_another_user(greet)
    assert mechanism == "CURVE" and more == ""
    assert cluster.status()["scheduler"]["connected"]


def test_processes_cannot_be_signalled_or_read(cluster: RunningCluster) -> None:
    client = cluster.client()
    client.wait_for_engines(2, timeout=20)
    for pid in (*cluster.pids().values(), *cluster.agent_pids(), *client[:].apply_sync(os.getpid)):
        assert as_another_user(lambda pid=pid: os.kill(pid, signal.SIGTERM)) == "EPERM"
        assert as_another_user(lambda pid=pid: read(Path(f"/proc/{pid}/environ"))) == "EACCES"
        assert as_another_user(lambda pid=pid: read(Path(f"/proc/{pid}/mem"))) == "EACCES"


# --- what another user prepares is not used ----------------------------------------------------------------------


def test_files_and_directories_of_another_user_are_refused(cluster: RunningCluster) -> None:
    other = pwd.getpwnam("nobody")
    directory = short_directory()
    copy = directory / "ipcontroller-client.json"
    copy.touch(mode=0o600)
    copy.write_bytes(cluster.place.client_file.read_bytes())
    assert load_capability(copy).role == "client"
    os.chown(copy, other.pw_uid, other.pw_gid)
    with pytest.raises(PrivateFileError, match=f"belongs to user {other.pw_uid}"):
        load_capability(copy)
    os.chown(copy, 0, 0)
    os.chown(directory, other.pw_uid, other.pw_gid)  # its owner could put another file in its place
    with pytest.raises(PrivateFileError) as caught:
        read_private(copy, 65536)
    assert str(directory) in str(caught.value) and caught.value.advice
    with pytest.raises(PrivateFileError):
        make_private_dir(directory)
    with pytest.raises(PrivateFileError):
        make_private_dir(directory / "below")
