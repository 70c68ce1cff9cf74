"""Asking the hub over its control socket: one JSON line there, one back (S10).

The socket is a private Unix socket; the hub checks who is at the other end.  Answers are the hub's, which runs as this
user, but they are bounded and parsed strictly all the same.
"""

from __future__ import annotations

import socket
from typing import Any

import msgspec

from secure_ipp import limits
from secure_ipp.errors import EnvironmentProblem
from secure_ipp.keys.places import ClusterPlace

ANSWER_BYTES = 64 * limits.MIB  # a status names every engine and client
ANSWER_SECONDS = 5.0


def ask(place: ClusterPlace, what: str, seconds: float = ANSWER_SECONDS, **details: Any) -> dict[str, Any]:
    """Put one question to the hub of a running cluster.

    Args:
        place: the cluster's place.
        what: "ping", "status" or "adopt".
        seconds: for the whole exchange.
        details: further fields of the question.

    Raises:
        EnvironmentProblem: nobody answers, or the answer says that it failed.
    """
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(seconds)
            connection.connect(str(place.control_socket()))
            connection.sendall(msgspec.json.encode({"do": what, **details}) + b"\n")
            line = _read_line(connection)
    except OSError as error:
        raise EnvironmentProblem(
            f"the hub of cluster {place.name!r} does not answer: {error}",
            f"see whether the cluster runs: ipcluster list; its log is {place.log_dir / 'hub.log'}",
            code="hub-silent",
        ) from error
    try:
        answer = msgspec.json.decode(line, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise EnvironmentProblem(f"the hub's answer is no JSON object: {error}", "use one version") from error
    if "error" in answer:
        said, advice, code = (str(answer.get(name, "")) for name in ("error", "advice", "code"))
        raise EnvironmentProblem(f"the hub refused: {said}", advice, code=code or "hub-refused")
    return answer


def _read_line(connection: socket.socket) -> bytes:
    line = bytearray()
    while not line.endswith(b"\n"):
        piece = connection.recv(65536)
        if not piece or len(line) > ANSWER_BYTES:
            raise ConnectionError("the answer is cut off")
        line += piece
    return bytes(line)
