"""Whether a capability is of a cluster whose keys this user made on this machine (S19).

Only then may a client unpickle whatever engines send without being told to: the engines run what the same user sent.
The proof is possession of the issuer's secret key, read from the private directory; a file's own words prove nothing.
"""

from __future__ import annotations

from secure_ipp.errors import SecureIppError
from secure_ipp.keys.capability import Capability
from secure_ipp.keys.places import ClusterPlace


def made_here(capability: Capability) -> bool:
    """Whether this user holds the issuer's secret of this capability's cluster; False when in any doubt."""
    from secure_ipp.keys.config import load_config
    from secure_ipp.keys.key_files import read_issuer_key

    try:
        place = ClusterPlace(capability.cluster)
        config = load_config(place)
        issuer = read_issuer_key(place.issuer_key).public()
    except SecureIppError:
        return False
    return (
        issuer == capability.issuer_key
        and issuer == config.issuer_key
        and config.cluster_id == capability.cluster_id
    )
