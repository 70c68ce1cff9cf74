"""Whether a capability is of a cluster whose keys this user made on this machine (S19).

Only then may a client unpickle whatever engines send without being told to: the engines run what the same user sent.
The proof is possession of a secret in the private directory; a file's own words prove nothing.  The secret is the
issuer's.  Where that is sealed nobody is asked for it: the doors' secret key takes its place.  It is as good a proof,
for it lies unsealed beside the issuer's, was made with it, and never leaves the controller's host (S8); a public half
alone, which anybody could put there who has seen one file of the cluster, is none.
"""

from __future__ import annotations

from collections.abc import Collection

from secure_ipp.errors import SecureIppError
from secure_ipp.keys.capability import PublicPart
from secure_ipp.keys.curve import CurvePublicKey
from secure_ipp.keys.places import ClusterPlace
from secure_ipp.keys.private_files import MissingFile


def made_here(capability: PublicPart) -> bool:
    """Whether this user holds the secrets of this capability's cluster; False when in any doubt."""
    from secure_ipp.keys.config import load_config
    from secure_ipp.keys.key_files import read_issuer_file

    try:
        place = ClusterPlace(capability.cluster)
        config = load_config(place)
        issuer = read_issuer_file(place.issuer_key)
        if issuer.locked is not None and not _has_a_door_key(place, capability.server_keys):
            return False
    except SecureIppError:
        return False
    return (
        issuer.public_key == capability.issuer_key
        and issuer.public_key == config.issuer_key
        and config.cluster_id == capability.cluster_id
    )


def _has_a_door_key(place: ClusterPlace, named: Collection[CurvePublicKey]) -> bool:
    """Whether the secret half of one of these lies here; while the server's key is rotated there are two (S33)."""
    from secure_ipp.keys.key_files import read_server_key

    found = []
    for path in (place.server_key, place.next_server_key):
        try:
            found.append(read_server_key(path).public)
        except MissingFile:
            continue
    return any(key in named for key in found)
