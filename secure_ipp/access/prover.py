"""The other end of a proof: what a holder of a key shows to a door that is a Unix socket, and wants to be shown (S25).

Law: each try has a nonce of its own, and is one try.
"""

from __future__ import annotations

import hmac
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from secure_ipp.access.proof import MAC_BYTES, NONCE_BYTES, Proof, Purpose, shared_key
from secure_ipp.keys.curve import CurvePublicKey, KeyPair


@dataclass(frozen=True, slots=True)
class Trial:
    """One try.

    Attributes:
        proof: to be shown.
        expected: what the door will say to it, if it has the server's key.
    """

    proof: Proof
    expected: bytes = field(repr=False)

    def is_answered(self, said: bytes) -> bool:
        """Whether whoever said this has the server's key."""
        return hmac.compare_digest(self.expected, said)

    def spoilt(self) -> Trial:
        """The same with a MAC that was never made, as of somebody without the key."""
        return replace(self, proof=replace(self.proof, mac=os.urandom(MAC_BYTES)))


@dataclass(frozen=True, slots=True)
class Prover:
    """Proves keys at one door of one cluster.

    Attributes:
        cluster_id: of the cluster.
        door: the ZAP domain of the door.
        now: seconds since the epoch.
    """

    cluster_id: str
    door: str
    now: Callable[[], float] = time.time

    def prove(self, keys: KeyPair, server_key: CurvePublicKey) -> Trial:
        """One try with these keys, at a door that is believed to have this one.

        Raises:
            ValueError: the server's key is none.
        """
        shared = shared_key(keys, server_key)
        purpose = Purpose(self.cluster_id, self.door, server_key, keys.public)
        proof = shared.make_proof(purpose, now=self.now(), nonce=os.urandom(NONCE_BYTES))
        return Trial(proof, shared.answer(proof, purpose))


def prover_for(cluster_id: str, role: str) -> Prover:
    """A prover at the door that is a Unix socket for holders of a file of this role, "client" or "engine"."""
    return Prover(cluster_id, f"{role}-socket")
