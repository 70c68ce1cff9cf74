"""What the hub is told at its start: one line of JSON on stdin, which stays open as long as the supervisor lives.

Laws: the line is decoded strictly; no text of it reaches a log, an argv or an environment (S11).
"""

from __future__ import annotations

import os

import msgspec

from secure_ipp import limits
from secure_ipp.errors import EnvironmentProblem


class HubBootstrap(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The line. Keys are unpadded base64url.

    Attributes:
        place_dir: the cluster's directory.
        cluster, cluster_id: its name and random id.
        link_socket, control_socket: paths, in a private local directory.
        link_server_secret, link_server_public: the hub's end of the link, fresh for each start of the controller.
        scheduler_public: the one key that is admitted to the link.
        log_file, log_level: of this process; the audit log lies beside it.
    """

    place_dir: str
    cluster: str
    cluster_id: str
    link_socket: str
    link_server_secret: str
    link_server_public: str
    scheduler_public: str
    control_socket: str
    log_file: str
    log_level: str = "INFO"

    def __repr__(self) -> str:
        return f"<HubBootstrap of {self.cluster!r}>"


def read_bootstrap(descriptor: int) -> HubBootstrap:
    """The first line of a pipe; not one byte more is taken.

    Raises:
        EnvironmentProblem: no whole line came, or it is no bootstrap; it is not quoted in the error.
    """
    line = bytearray()
    while not line.endswith(b"\n"):
        piece = os.read(descriptor, 1)
        if not piece or len(line) >= limits.BOOTSTRAP_BYTES:
            raise EnvironmentProblem("the hub was not told what to do", "it is started by ipcluster, not by hand")
        line += piece
    try:
        return msgspec.json.decode(bytes(line), type=HubBootstrap)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        advice = "use one version of secure_ipp throughout"
        raise EnvironmentProblem("what the hub was told is no bootstrap of this version", advice) from None
