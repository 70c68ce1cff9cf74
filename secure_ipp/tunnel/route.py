"""An ssh route: where to log in.  Pure; what is written is checked by the rules of names and hosts (S22)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from secure_ipp.errors import UsageError
from secure_ipp.keys import fields
from secure_ipp.keys.strict_json import shown


@dataclass(frozen=True, slots=True)
class Route:
    """Where to log in.

    Attributes:
        host: a name (perhaps an alias of the user's ssh configuration) or an address, without brackets.
        user: to log in as; "": as the user's ssh configuration says.
        port: 0: as that configuration says.
    """

    host: str
    user: str = ""
    port: int = 0

    @classmethod
    def parse(cls, text: str) -> Self:
        """The route that ``[user@]host[:port]`` spells.

        Raises:
            UsageError: it spells none.
        """
        try:
            if not text:
                raise ValueError("an ssh route is [user@]host[:port]")
            fields.check_ssh_route(text)
        except ValueError as error:
            reason = error.message if isinstance(error, UsageError) else str(error)
            raise UsageError(f"{shown(text, 80)!r} is no ssh route: {reason}", "say user@host:port") from None
        user, _, place = text.rpartition("@")
        host, _, port = place.partition(":")
        return cls(host, user, int(port) if port else 0)

    @property
    def text(self) -> str:
        """As it is written."""
        user = f"{self.user}@" if self.user else ""
        port = f":{self.port}" if self.port else ""
        return f"{user}{self.host}{port}"

    def __str__(self) -> str:
        return self.text
