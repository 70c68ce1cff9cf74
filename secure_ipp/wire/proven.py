"""What a door says to the proofs by which its connections came in (S25)."""

from __future__ import annotations

import zmq

from secure_ipp.access.decision import ANSWER
from secure_ipp.access.proof import MAC_BYTES
from secure_ipp.keys import base64url
from secure_ipp.wire.greeting import property_of


def answer_of(frame: zmq.Frame) -> bytes:
    """The answer that the gate gave to the proof of the connection that a frame came over."""
    try:
        return base64url.decode(property_of(frame, ANSWER), MAC_BYTES)
    except ValueError:
        return b""
