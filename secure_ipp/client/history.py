"""Ids of the tasks that were sent, oldest first; the latest `CLIENT_HISTORY` of them, so that it does not grow."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import overload

from secure_ipp import limits


class History(Sequence[str]):
    """Indexed like a list; negative indices count from the latest."""

    def __init__(self) -> None:
        self._ids: list[str] = []

    def extend(self, ids: Iterable[str]) -> None:
        """Add the latest; drop the oldest."""
        self._ids.extend(ids)
        if len(self._ids) > 2 * limits.CLIENT_HISTORY:
            self._ids = self._ids[-limits.CLIENT_HISTORY :]

    def clear(self) -> None:
        self._ids = []

    def __len__(self) -> int:
        return len(self._ids)

    def __iter__(self) -> Iterator[str]:
        return iter(self._ids)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        return self._ids[index]

    def __repr__(self) -> str:
        return repr(self._ids)
