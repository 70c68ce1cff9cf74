"""Bad input, end to end: each mistake ends in a clear error with advice, in time, and disturbs nobody.

The commands' own mistakes (no keys, ports in use, a second controller, open files) stand in test_commands, those with
connection files in test_bad_files.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import secure_ipp as ipp
from secure_ipp import limits
from secure_ipp._version import __version__
from secure_ipp.errors import ControllerUnreachable, EnvironmentProblem, Refused, UsageError
from secure_ipp.keys.capability import load_capability
from secure_ipp.keys.cluster_keys import load_issuer
from secure_ipp.wire import monitor, sockets
from tests.live.mistakes import check_undisturbed, is_clear, remake
from tests.running import RunningCluster, argv, command, journal_lines, short_directory, wait_until

pytestmark = pytest.mark.live


@pytest.fixture
def client(bystander: Any, cluster: RunningCluster) -> Iterator[Any]:
    """A client for mistakes; afterwards nothing must be left of them, and everybody must be served."""
    pids = bystander[:].apply_sync(os.getpid)
    with ipp.Client(str(cluster.place.client_file), timeout=10) as mistaken:
        yield mistaken
        assert not mistaken.outstanding
    check_undisturbed(bystander, pids)


# --- names and places ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("named", [{"cluster": "nonsuch"}, {"profile": "nonsuch"}, {"cluster_id": "nonsuch"}])
def test_a_wrong_cluster_name(named: dict[str, str]) -> None:
    with pytest.raises(EnvironmentProblem) as caught:
        ipp.Client(**named)
    is_clear(caught.value, "nonsuch", "secure-ipp keys init --cluster", "ipcluster list")
    with pytest.raises(EnvironmentProblem) as caught:
        ipp.Cluster.from_file(**named)
    is_clear(caught.value, "nonsuch", "ipcluster start")


def test_a_name_that_is_a_path() -> None:
    with pytest.raises(UsageError) as caught:
        ipp.Client(cluster="../default")
    is_clear(caught.value, "is not a name")


def test_keys_for_a_port_in_use(home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = command("secure-ipp", "keys", "init", "--bind", "127.0.0.1", "--client-port", port)
        assert done.returncode == 7 and port in done.stderr and "  -> choose another" in done.stderr
        assert not list(home.rglob("*.key"))


def test_a_controller_that_is_not_there(home: Path, wishing: Callable[[str], dict[str, str]]) -> None:
    assert command("secure-ipp", "keys", "init", "--bind", "127.0.0.1").returncode == 0
    for timeout in (0.3, 1.5):
        begun = time.monotonic()
        with pytest.raises(ControllerUnreachable) as caught:
            ipp.Client(timeout=timeout)
        assert time.monotonic() - begun < timeout + 1.0
        assert isinstance(caught.value, TimeoutError)
        is_clear(caught.value, "tcp://127.0.0.1:", "nothing listens there", "ipcluster list")
    begun = time.monotonic()
    done = command("ipengine", "-n", "1", env=wishing("little patience"))
    assert time.monotonic() - begun < 6
    assert done.returncode == 6 and "nothing listens there" in done.stderr and "ipcluster list" in done.stderr


def test_something_else_at_the_controllers_port(cluster: RunningCluster) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        door = f"tcp://127.0.0.1:{silent.getsockname()[1]}"
        file = remake(load_capability(cluster.place.client_file), load_issuer(cluster.place), door=(door,))
        begun = time.monotonic()
        with pytest.raises(ControllerUnreachable) as caught:
            ipp.Client(str(file), timeout=1.5)
        assert time.monotonic() - begun < 2.5
        is_clear(caught.value, door, "does not answer")


# --- tasks ----------------------------------------------------------------------------------------------------------


def test_an_engine_that_cannot_import_a_module(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = short_directory()
    (directory / "only_at_the_client.py").write_text("def double(x): return 2 * x\nclass Thing: pass\n")
    monkeypatch.syspath_prepend(directory)
    import only_at_the_client

    view = client.load_balanced_view()
    for call in (
        lambda: client[0].apply_sync(only_at_the_client.double, 2),
        lambda: view.apply_sync(only_at_the_client.double, 2),
        lambda: client[0].apply_sync(lambda thing: 1, only_at_the_client.Thing()),
        lambda: client[0].push({"thing": only_at_the_client.Thing()}, block=True),
    ):
        with pytest.raises(ipp.RemoteError) as caught:
            call()
        assert caught.value.ename == "ModuleNotFoundError"
        assert "'only_at_the_client'" in str(caught.value) and "install it where the engine runs" in str(caught.value)
    with pytest.raises(ipp.CompositeError, match="only_at_the_client"):
        view.map_sync(only_at_the_client.double, range(4))
    with pytest.raises(ipp.RemoteError, match="ModuleNotFoundError: No module named 'nonsuch'"):
        client[0].execute("import nonsuch", block=True)
    del sys.modules["only_at_the_client"]


def test_a_result_that_cannot_be_pickled(client: Any) -> None:
    for make, word in ((threading.Lock, "lock"), (lambda: (x for x in "ab"), "generator"), (socket.socket, "socket")):
        for view in (client[0], client.load_balanced_view()):
            with pytest.raises(ipp.RemoteError) as caught:
                view.apply_sync(make)
            assert word in str(caught.value) and "  -> send data that can be pickled" in str(caught.value)
    client[0].execute("import threading; lock = threading.Lock()", block=True)
    with pytest.raises(ipp.RemoteError, match="cannot pickle"):
        client[0].pull("lock", block=True)
    client[0].execute("del lock", block=True)


class Unwilling:
    """Refuses to be pickled, in words of its own."""

    def __reduce__(self) -> Any:
        raise RuntimeError("I stay here")


def test_a_function_or_an_argument_that_cannot_be_sent(client: Any) -> None:
    lock, view = threading.Lock(), client.load_balanced_view()

    def holding() -> bool:
        return lock.locked()

    for call, word in (
        (lambda: client[:].apply_sync(holding), "lock"),
        (lambda: view.apply_sync(lambda x=lock: x), "lock"),
        (lambda: view.apply_sync(lock.acquire), "lock"),
        (lambda: client[:].apply_sync(len, Unwilling()), "I stay here"),
        (lambda: client[:].push({"lock": lock}, block=True), "lock"),
        (lambda: view.map_sync(len, ["a", lock]), "lock"),
        (lambda: client[:].scatter("parts", [lock, lock], block=True), "lock"),
        (lambda: view.apply_sync("len"), "not callable"),
    ):
        with pytest.raises(UsageError) as caught:
            call()
        is_clear(caught.value, word)


# --- sizes -----------------------------------------------------------------------------------------------------------


def test_arguments_that_are_too_large(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "BODY_BYTES", limits.MIB)
    large, view = bytes(2 * limits.MIB), client.load_balanced_view()
    for call in (
        lambda: client[0].apply_sync(len, large),
        lambda: client[:].push({"large": large}, block=True),
        lambda: view.apply_sync(len, large),
        lambda: view.map_sync(len, [large]),
    ):
        with pytest.raises(UsageError) as caught:
            call()
        is_clear(caught.value, "2,097,", "(1,048,576)", "in parts")
    assert view.apply_sync(len, large[: limits.MIB // 2]) == limits.MIB // 2


def test_a_result_that_is_too_large(cluster: RunningCluster, client: Any, wishing: Callable[[str], Any]) -> None:
    """One more engine, which may not send more than 1 MiB."""
    environment = {**wishing("little room"), "SECURE_IPP_HOME": str(cluster.home)}
    process = subprocess.Popen(
        argv("ipengine", "-n", "1"), stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment,
        start_new_session=True,
    )
    try:
        client.wait_for_engines(3, timeout=30)
        engine = client[client.ids[-1]]
        for function in (lambda: bytes(2 << 20), lambda: [bytes(1 << 19)] * 2 + [bytes(1 << 19), "x" * (1 << 20)]):
            with pytest.raises(ipp.RemoteError) as caught:
                engine.apply_sync(function)
            assert "(1,048,576)" in str(caught.value) and "  -> " in str(caught.value)
        assert engine.apply_sync(lambda: len(bytes(2 << 20))) == 2 << 20
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=20)
    wait_until(lambda: len(client.ids) == 2, 10)


def test_a_frame_beyond_the_bound_cuts_its_sender_alone(cluster: RunningCluster, undisturbed: None) -> None:
    file = load_capability(cluster.place.client_file)
    context = sockets.make_context()
    sender = sockets.connect(context, file.door[0], server_key=file.server_key, keys=file.keys)
    watch = monitor.Monitor(sender)
    try:
        sender.connect(file.door[0])
        sender.send(bytes(limits.MAX_FRAME_BYTES + 1))
        seen: list[int] = []
        end = time.monotonic() + 10
        while monitor.DISCONNECTED not in seen and time.monotonic() < end:
            watch.socket.poll(1000)
            seen += [event.event for event in watch.events()]
        assert monitor.HANDSHAKE_SUCCEEDED in seen and monitor.DISCONNECTED in seen
    finally:
        watch.close()
        sender.close(0)
        context.destroy(linger=0)


# --- versions --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wish", "said"), [("another Python", "3.99.1"), ("another package", "99.9"), ("another protocol", "99")]
)
def test_engines_of_another_version_are_refused_at_join(
    cluster: RunningCluster, undisturbed: None, wishing: Callable[[str], dict[str, str]], wish: str, said: str
) -> None:
    begun = time.monotonic()
    done = command("ipengine", "-n", "1", env={**wishing(wish), "SECURE_IPP_HOME": str(cluster.home)})
    assert done.returncode == 5, done.stderr
    assert said in done.stderr and f"secure-ipp=={__version__}" in done.stderr and "Traceback" not in done.stderr
    assert time.monotonic() - begun < 10
    assert len(cluster.status()["engines"]) == 2
    assert "version" in [line.get("details", {}).get("code") for line in journal_lines(cluster.place)]


def test_a_client_of_another_protocol(
    cluster: RunningCluster, undisturbed: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "PROTOCOL", 99)
    with pytest.raises(Refused) as caught:
        ipp.Client(str(cluster.place.client_file))
    monkeypatch.undo()
    is_clear(caught.value, "protocol 99", f"secure-ipp=={__version__}")
