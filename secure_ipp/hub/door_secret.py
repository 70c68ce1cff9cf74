"""What the scheduler is handed when the server's key is being rotated (S33).

The hub reads the secret only to pass it on over the link, which is encrypted with keys of this start, and keeps none.
"""

from __future__ import annotations

import logging

from secure_ipp.errors import SecureIppError
from secure_ipp.keys.cluster_keys import door_pair
from secure_ipp.keys.door_keys import DoorKeys
from secure_ipp.keys.places import ClusterPlace
from secure_ipp.wire.messages import DoorSecret

_log = logging.getLogger(__name__)


def door_secret(place: ClusterPlace, doors: DoorKeys) -> DoorSecret:
    """The statement and the secret of its current key.

    Raises:
        KeyFileError, PrivateFileError: the secret cannot be read.
    """
    try:
        return DoorSecret(doors.to_bytes(), door_pair(place, doors.current).secret.raw)
    except SecureIppError as error:
        _log.error("the scheduler cannot be handed the server's key: %s", error.message)
        raise
