"""Asking the hub: what comes back when it is not there, silent, or talks nonsense."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from secure_ipp.cluster.control import ask
from secure_ipp.errors import EnvironmentProblem
from secure_ipp.keys.places import ClusterPlace


@pytest.fixture
def place(home: Path) -> ClusterPlace:
    return ClusterPlace("default", home)


@pytest.fixture
def hub_says(place: ClusterPlace) -> Iterator[Callable[[bytes | None], None]]:
    """Start a stand-in that answers one question with these bytes (None: never)."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(place.control_socket()))
    listener.listen(1)
    threads: list[threading.Thread] = []
    done = threading.Event()

    def start(answer: bytes | None) -> None:
        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1000)
                if answer is None:
                    done.wait(10)
                else:
                    connection.sendall(answer)

        threads.append(threading.Thread(target=serve))
        threads[-1].start()

    yield start
    done.set()
    for thread in threads:
        thread.join()
    listener.close()


def test_an_answer(place: ClusterPlace, hub_says: Callable[[bytes | None], None]) -> None:
    hub_says(b'{"pid": 7}\n')
    assert ask(place, "ping") == {"pid": 7}


def test_nobody_there(place: ClusterPlace) -> None:
    with pytest.raises(EnvironmentProblem, match="does not answer"):
        ask(place, "ping")


@pytest.mark.parametrize("answer", [b"", b"{", b"[1]\n", b"\xff\n", b'{"error": "no", "code": "x", "advice": "y"}\n'])
def test_no_answer_or_nonsense(
    place: ClusterPlace, hub_says: Callable[[bytes | None], None], answer: bytes
) -> None:
    hub_says(answer)
    with pytest.raises(EnvironmentProblem):
        ask(place, "ping")


def test_silence_is_bounded(place: ClusterPlace, hub_says: Callable[[bytes | None], None]) -> None:
    hub_says(None)
    with pytest.raises(EnvironmentProblem, match="does not answer"):
        ask(place, "ping", seconds=0.2)
