"""Raster images from engines: whether they are what they say, and no larger than a front end should draw (S31).

Looks at the beginning of a file: its signature and the size of its picture.  What comes after is the front end's
decoder's to judge; that is the same one that shows pictures of any web page.
"""

from __future__ import annotations

import binascii

IMAGE_BYTES = 32 * 1024 * 1024  # of one picture
IMAGE_SIDE = 16_384  # pixels
IMAGE_PIXELS = 64_000_000  # 256 MB when it is drawn
_LOOKED_AT = 256 * 1024  # bytes of a JPEG in which its size must stand
_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8\xff"


def is_picture(kind: str, text: object) -> bool:
    """Is this (unverified) base64 text a picture of that MIME type, of a size that may be shown?"""
    if kind not in ("image/png", "image/jpeg") or not isinstance(text, str) or len(text) > IMAGE_BYTES * 4 // 3 + 1024:
        return False
    try:
        data = binascii.a2b_base64("".join(text.split()), strict_mode=True)
    except (binascii.Error, ValueError):
        return False
    size = _png_size(data) if kind == "image/png" else _jpeg_size(data)
    if size is None:
        return False
    width, height = size
    return 0 < width <= IMAGE_SIDE and 0 < height <= IMAGE_SIDE and width * height <= IMAGE_PIXELS


def _png_size(data: bytes) -> tuple[int, int] | None:
    if len(data) < 33 or data[:8] != _PNG or data[12:16] != b"IHDR":
        return None
    return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    """From the frame header (ITU T.81, B.2.2), behind segments that are skipped."""
    if data[:3] != _JPEG:
        return None
    at = 2
    while at + 9 <= min(len(data), _LOOKED_AT) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:
            at += 1
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return int.from_bytes(data[at + 7 : at + 9], "big"), int.from_bytes(data[at + 5 : at + 7], "big")
        elif marker in (0xD9, 0xDA):
            return None
        else:
            at += 2 + max(2, int.from_bytes(data[at + 2 : at + 4], "big"))
    return None
