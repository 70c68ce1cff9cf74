"""When a client says that its capability ends soon: a day and an hour before, each once.

Decides from the end and the time that it is told, and does nothing.  Whoever starts within the last day is told at
once, not as often as there were times to tell before.
"""

from __future__ import annotations

from secure_ipp.client.terminal import line
from secure_ipp.keys.capability import PublicPart
from secure_ipp.keys.expiry import in_words

BEFORE_SECONDS = (86400.0, 3600.0)  # the earliest first
_LOOK_SECONDS = 60.0  # a clock may be set, a computer sleep: a wait is never taken for the time


class Ending:
    """One capability's end."""

    def __init__(self, capability: PublicPart) -> None:
        self._capability = capability
        self._left: tuple[float, ...] = BEFORE_SECONDS if capability.expires else ()

    def look(self, now: float) -> tuple[str, float | None]:
        """What is to be said at this time, or "", and in how many seconds to look again; None: never.

        Args:
            now: seconds since the epoch.
        """
        left = self._capability.expires - now
        passed = [before for before in self._left if left <= before]
        self._left = self._left[len(passed) :]
        wait = min(left - self._left[0], _LOOK_SECONDS) if self._left else None
        return (self._text(now) if passed else ""), wait

    def _text(self, now: float) -> str:
        one = self._capability
        again = (
            "whoever handed it on makes a new one (secure-ipp keys attenuate)" if one.parents else
            f"its owner renews it (secure-ipp keys renew {one.name} --expires 7d --out ANSWER), and you accept the"
            " answer (secure-ipp keys accept ANSWER --out FILE)"
        )
        return line(
            f"the key of {one.name!r} for cluster {one.cluster!r} ends {in_words(one.expires, now)}; this connection is"
            f" cut then. {again[0].upper()}{again[1:]}."
        )
