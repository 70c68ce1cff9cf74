"""What a gate needs to take proofs: the server's key, the cluster's id, and the memory of those that were taken (S25).

Laws: proofs are checked with the one key that the doors have now (S33); what a wrong proof costs is a MAC, and for a
key that was not seen of late one agreement of keys, but never the disk.
"""

from __future__ import annotations

from collections import OrderedDict

from secure_ipp import limits
from secure_ipp.access.proof import Proof, Purpose, SharedKey, shared_key
from secure_ipp.access.proof_file import ProofFile
from secure_ipp.errors import ProtocolError
from secure_ipp.keys.curve import KeyPair


class ProofDesk:
    """Checks and remembers, in the gate's thread.

    Args:
        keys: the server's.
        cluster_id: of the cluster.
        doors: ZAP domains of the doors that take proofs.
        memory: open; from now on the gate's thread's alone.
    """

    def __init__(self, keys: KeyPair, cluster_id: str, doors: frozenset[str], memory: ProofFile) -> None:
        self.doors = doors
        self._cluster_id = cluster_id
        self._memory = memory
        self._now: tuple[KeyPair, OrderedDict[bytes, SharedKey]] = (keys, OrderedDict())  # replaced in one step

    def use(self, keys: KeyPair) -> None:
        """The doors have another key from now on; any thread."""
        self._now = (keys, OrderedDict())

    def check(self, proof: Proof, door: str) -> bytes:
        """The answer to a proof that holds at this door; raises `ProtocolError` for one that does not."""
        keys, known = self._now
        shared = known.get(proof.holder.raw)
        if shared is None:
            try:
                shared = shared_key(keys, proof.holder)
            except ValueError:
                raise ProtocolError("the proof of a key that is none") from None
            known[proof.holder.raw] = shared
            if len(known) > limits.SHARED_KEYS:
                known.popitem(last=False)
        purpose = Purpose(self._cluster_id, door, keys.public, proof.holder)
        shared.check(proof, purpose)
        return shared.answer(proof, purpose)

    def is_used(self, proof: Proof) -> bool:
        """Whether it was taken before."""
        return self._memory.is_used(proof)

    def take(self, proof: Proof, now: float) -> None:
        """Remember it for good (seconds since the epoch); raises `SecureIppError` if that cannot be."""
        self._memory.take(proof, now)
