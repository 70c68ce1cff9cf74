"""The control socket from the side of an honest command."""

from __future__ import annotations

import json
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from secure_ipp.errors import EnvironmentProblem
from secure_ipp.hub.control import ControlSocket, parse_request, remove_socket


def status(_: object = None) -> dict[str, Any]:
    return {"cluster": "work", "text": "\x1b[2J\x7f\n\u2028é"}


COMMANDS = {"status": status}


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "control")


@pytest.fixture
def control(path: str) -> Iterator[ControlSocket]:
    served = ControlSocket(path, commands=COMMANDS, refused=pytest.fail)
    served.open()
    yield served
    served.close()


def ask(path: str, *lines: bytes) -> list[bytes]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(10)
        connection.connect(path)
        connection.sendall(b"".join(lines))
        connection.shutdown(socket.SHUT_WR)
        received = b""
        while piece := connection.recv(65536):
            received += piece
    return received.splitlines()


@pytest.mark.usefixtures("control")
def test_ping_and_status_on_one_connection(path: str) -> None:
    pong, answer = ask(path, b'{"do":"ping"}\n', b'{"do": "status"}\n')
    assert json.loads(pong) == {"pid": os.getpid()}
    assert json.loads(answer) == status()
    assert all(0x20 <= byte < 0x7F for byte in answer)


@pytest.mark.usefixtures("control")
def test_only_the_owner_can_open_the_socket(path: str) -> None:
    assert stat.S_IMODE(os.lstat(path).st_mode) == 0o600


@pytest.mark.usefixtures("control")
def test_a_silent_command_does_not_hold_up_another(path: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as silent:
        silent.connect(path)
        silent.sendall(b'{"do":')
        assert json.loads(ask(path, b'{"do":"ping"}\n')[0])["pid"] == os.getpid()


def test_a_status_that_fails_is_an_error_line(path: str) -> None:
    def fails(_: object) -> dict[str, Any]:
        raise EnvironmentProblem("busy", "try again")

    control = ControlSocket(path, commands={"status": fails}, refused=pytest.fail)
    control.open()
    try:
        [answer] = ask(path, b'{"do":"status"}\n')
    finally:
        control.close()
    assert json.loads(answer) == {"error": "busy", "code": "environment", "advice": "try again"}


def test_what_an_earlier_hub_left_is_replaced_and_closing_removes_it(path: str) -> None:
    left = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    left.bind(path)
    left.close()
    control = ControlSocket(path, commands=COMMANDS, refused=pytest.fail)
    control.open()
    assert json.loads(ask(path, b'{"do":"ping"}\n')[0])
    control.close()
    control.close()
    assert not os.path.lexists(path)


def test_a_successor_s_socket_is_not_removed(path: str) -> None:
    first = ControlSocket(path, commands=COMMANDS, refused=pytest.fail)
    second = ControlSocket(path, commands=COMMANDS, refused=pytest.fail)
    first.open()
    second.open()
    first.close()
    assert json.loads(ask(path, b'{"do":"ping"}\n')[0])
    second.close()


def test_a_file_in_the_way_is_left_alone(path: str) -> None:
    Path(path).write_text("precious")
    with pytest.raises(EnvironmentProblem, match="in the way"):
        remove_socket(path)
    with pytest.raises(EnvironmentProblem):
        ControlSocket(path, commands=COMMANDS, refused=pytest.fail).open()
    assert Path(path).read_text() == "precious"


def test_a_path_too_long_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentProblem, match="control socket") as caught:
        ControlSocket(str(tmp_path / ("x" * 120)), commands=COMMANDS, refused=pytest.fail).open()
    assert "XDG_RUNTIME_DIR" in caught.value.advice


def test_requests() -> None:
    assert parse_request(b'{"do":"ping"}\n').do == "ping"
    assert parse_request(b' {"do" : "status"}').do == "status"
