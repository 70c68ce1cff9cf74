"""Binary values as text: base64url without padding (RFC 4648, section 5), one spelling per value.

Decoding is strict: padding, white space, characters of the other alphabet, a wrong length and set bits behind the
last byte are errors, so that equal values have equal texts.  No error quotes the text, which may be a secret.
"""

from __future__ import annotations

import base64
import binascii


def encode(data: bytes) -> str:
    """The text of these bytes."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def decode(text: str, size: int) -> bytes:
    """The bytes of a text that must hold exactly `size` of them.

    Raises:
        ValueError: the text is anything else.
    """
    if len(text) != (size * 4 + 2) // 3 or not text.isascii():
        raise ValueError(f"not {size} bytes in base64url")
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(f"not {size} bytes in base64url") from None
    if len(data) != size or encode(data) != text:
        raise ValueError(f"not {size} bytes in base64url")
    return data
