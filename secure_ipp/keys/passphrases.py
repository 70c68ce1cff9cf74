"""A passphrase in memory: never shown, never pickled, of one spelling whatever keyboard it came from.

Unicode is brought to its composed form (NFC, as in RFC 8265): one system types an é as one character, another as two.
"""

from __future__ import annotations

import unicodedata
from typing import NoReturn, Self

from secure_ipp import limits
from secure_ipp.errors import UsageError


class Passphrase:
    """What somebody typed, or a descriptor gave."""

    __slots__ = ("_text",)
    _text: str

    def __init__(self, text: str) -> None:
        """Take a text that `checked` or `of` looks at."""
        object.__setattr__(self, "_text", unicodedata.normalize("NFC", text))

    @classmethod
    def of(cls, text: str) -> Self:
        """The passphrase that this text spells.

        Raises:
            UsageError: see `checked`.
        """
        kind, made = type(text).__name__, cls(text) if isinstance(text, str) else None
        del text  # a traceback may be shown with its variables (S11)
        if made is None:
            raise UsageError(f"a passphrase is text, and this is of type {kind}", "decode it first", code="passphrase")
        return made.checked()

    def checked(self) -> Self:
        """This passphrase, if it is one.

        Raises:
            UsageError: it is empty, too long, or holds what cannot be typed.
        """
        why = _unfit(self._text)
        if why:
            raise UsageError(f"the passphrase {why}", "give one line of text", code="passphrase")
        return self

    def check_new(self) -> Self:
        """This passphrase, if it may seal something.

        Raises:
            UsageError: it is too short.
        """
        if len(self._text) < limits.NEW_PASSPHRASE_CHARS:
            raise UsageError(
                f"a passphrase has at least {limits.NEW_PASSPHRASE_CHARS} characters",
                "take several words that do not belong together", code="passphrase",
            )
        return self

    @property
    def text(self) -> str:
        """What was typed, for the OS keyring alone."""
        return self._text

    @property
    def raw(self) -> bytes:
        """UTF-8, for the key derivation alone."""
        return self._text.encode()

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        import hmac

        return hmac.compare_digest(self.raw, other.raw)

    __hash__ = None  # type: ignore[assignment]  # a secret is no key of a table

    def __repr__(self) -> str:
        return "<Passphrase>"

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError("a passphrase does not change")

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a passphrase is not pickled (S11)")

    def __getstate__(self) -> NoReturn:
        raise TypeError("a passphrase is not pickled (S11)")


def _unfit(text: str) -> str:
    if not text:
        return "is empty"
    if len(text) > limits.PASSPHRASE_CHARS:
        return f"is longer than {limits.PASSPHRASE_CHARS} characters"
    if any(ord(character) < 32 or 0xD800 <= ord(character) < 0xE000 for character in text):
        return "holds characters that nobody types"
    return ""
