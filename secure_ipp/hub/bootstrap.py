"""What the hub is told at its start: one line of JSON on stdin, which stays open as long as the supervisor lives.

Laws: the line is decoded strictly; no text of it reaches a log, an argv or an environment (S11).
"""

from __future__ import annotations

from typing import Literal

import msgspec

from secure_ipp.errors import EnvironmentProblem
from secure_ipp.keys.curve import CurvePublicKey, CurveSecretKey, KeyPair


class HubBootstrap(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The line. Keys are unpadded base64url.

    Attributes:
        place_dir: the cluster's directory.
        cluster, cluster_id: its name and random id.
        link_socket, control_socket: paths, in a private local directory.
        link_server_secret, link_server_public: the hub's end of the link, fresh for each start of the controller.
        scheduler_public: the one key that is admitted to the link.
        log_file, log_level: of this process.
        journal_keep: what the journal's retention leaves; see `audit.retention.parse_keep`.
        journal_sync: when its records must last; see `hub.recorder`.
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
    journal_keep: str = "all"
    journal_sync: Literal["batch", "each"] = "batch"

    def __repr__(self) -> str:
        return f"<HubBootstrap of {self.cluster!r}>"


def decode(line: bytes) -> HubBootstrap:
    """Decode the line; it is not quoted in the error (`EnvironmentProblem`)."""
    try:
        return msgspec.json.decode(line, type=HubBootstrap)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        advice = "use one version of secure_ipp throughout"
        raise EnvironmentProblem("what the hub was told is no bootstrap of this version", advice) from None


def keys(bootstrap: HubBootstrap) -> tuple[KeyPair, CurvePublicKey]:
    """The hub's own pair, and the scheduler's public key.

    Raises:
        EnvironmentProblem: the texts are no keys, or the halves do not belong together.
    """
    try:
        pair = KeyPair.from_secret(CurveSecretKey.from_text(bootstrap.link_server_secret))
        public = CurvePublicKey.from_text(bootstrap.link_server_public)
        scheduler = CurvePublicKey.from_text(bootstrap.scheduler_public)
    except ValueError:
        raise EnvironmentProblem("the hub was given texts that are no keys", "start the cluster again") from None
    if pair.public != public:
        raise EnvironmentProblem("the two halves of the hub's key do not match", "start the cluster again")
    return pair, scheduler
