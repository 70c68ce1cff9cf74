"""What the scheduler is told at its start: one line of JSON on stdin, which stays open as long as the supervisor lives.

Laws: the line is decoded strictly; no text of it reaches a log, an argv or an environment (S11).
"""

from __future__ import annotations

import msgspec

from secure_ipp.errors import EnvironmentProblem
from secure_ipp.keys import base64url
from secure_ipp.keys.curve import CurvePublicKey, CurveSecretKey, KeyPair


class SchedulerBootstrap(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The line. Keys are unpadded base64url.

    Attributes:
        client_endpoints, engine_endpoints: where the doors listen with Curve, as libzmq spells it; perhaps nowhere.
        client_socket, engine_socket: paths of the doors that are Unix sockets (S25); empty: there is no such door.
        proofs_file: where the proofs that these have taken are kept.
        server_secret, server_public: the cluster's key pair.
        link_socket: path of the hub's socket; `link_server_public` is the hub's key, the other two are ours.
        ticket_key: 32 bytes; the same for each restart within one start of the controller.
        scheme: of placing balanced tasks.
    """

    cluster: str
    cluster_id: str
    client_endpoints: list[str]
    engine_endpoints: list[str]
    server_secret: str
    server_public: str
    link_socket: str
    link_server_public: str
    link_secret: str
    link_public: str
    ticket_key: str
    log_file: str
    log_level: str = "INFO"
    scheme: str = "leastload"
    client_socket: str = ""
    engine_socket: str = ""
    proofs_file: str = ""

    def __repr__(self) -> str:
        return f"<SchedulerBootstrap of {self.cluster!r}>"


def pair(secret: str, public: str) -> KeyPair:
    """A key pair from its two texts.

    Raises:
        EnvironmentProblem: the halves do not belong together, or are no keys.
    """
    try:
        keys = KeyPair.from_secret(CurveSecretKey.from_text(secret))
        matches = keys.public == CurvePublicKey.from_text(public)
    except ValueError:
        raise EnvironmentProblem("the scheduler was given texts that are no keys", "start the cluster again") from None
    if not matches:
        raise EnvironmentProblem("the two halves of a key do not match", "start the cluster again")
    return keys


def ticket_key(text: str) -> bytes:
    """The ticket key's bytes; raises `EnvironmentProblem`."""
    try:
        return base64url.decode(text, 32)
    except ValueError:
        raise EnvironmentProblem("the scheduler was given no ticket key", "start the cluster again") from None


def decode(line: bytes) -> SchedulerBootstrap:
    """Decode the line; it is not quoted in the error (`EnvironmentProblem`)."""
    try:
        return msgspec.json.decode(line, type=SchedulerBootstrap)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise EnvironmentProblem(
            "what the scheduler was told is no bootstrap of this version", "use one version of secure_ipp throughout"
        ) from None
