"""How a sequence is cut into parts for engines, and put together again.  Pure.

Law: `join(split(s, n))` has the elements of `s` in order; parts differ in length by at most one, longer ones first.
"""

from __future__ import annotations

import itertools
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any

from secure_ipp.errors import UsageError


class Partition(ABC):
    """One way to cut."""

    contiguous = True

    @abstractmethod
    def split(self, sequence: Any, parts: int) -> list[Any]:
        """Cut a sequence into so many parts; some are empty if it is too short."""

    @abstractmethod
    def join(self, pieces: Sequence[Any]) -> Any:
        """Put parts together; what is no sequence, or an exception, stands for itself."""


class Blocks(Partition):
    """Contiguous blocks, in order."""

    def split(self, sequence: Any, parts: int) -> list[Any]:
        size, longer = divmod(len(sequence), parts)
        ends = list(itertools.accumulate(size + (part < longer) for part in range(parts)))
        return [sequence[start:end] for start, end in zip([0, *ends[:-1]], ends, strict=True)]

    def join(self, pieces: Sequence[Any]) -> Any:
        numpy = _numpy_of(pieces)
        if numpy is not None:
            return numpy.concatenate(pieces)
        joined: list[Any] = []
        for piece in pieces:
            if isinstance(piece, list | tuple | range):
                joined.extend(piece)
            else:
                joined.append(piece)
        return joined


class RoundRobin(Partition):
    """Every n-th element."""

    contiguous = False

    def split(self, sequence: Any, parts: int) -> list[Any]:
        return [sequence[part::parts] for part in range(parts)]

    def join(self, pieces: Sequence[Any]) -> Any:
        numpy = _numpy_of(pieces)
        if numpy is not None:
            whole = numpy.empty((sum(map(len, pieces)), *pieces[0].shape[1:]), numpy.result_type(*pieces))
            for part, piece in enumerate(pieces):
                whole[part :: len(pieces)] = piece
            return whole
        if not all(isinstance(piece, list | tuple | range) for piece in pieces):
            return list(pieces)
        missing = object()
        rounds = itertools.zip_longest(*pieces, fillvalue=missing)
        return [element for one in rounds for element in one if element is not missing]


def _numpy_of(pieces: Sequence[Any]) -> Any:
    """The NumPy module, if all pieces are arrays with a first axis."""
    numpy = sys.modules.get("numpy")
    if numpy is None or not pieces:
        return None
    return numpy if all(isinstance(piece, numpy.ndarray) and piece.ndim for piece in pieces) else None


_WAYS: dict[str, Partition] = {"b": Blocks(), "r": RoundRobin()}


def partition(dist: str) -> Partition:
    """The way of that name: "b" for blocks, "r" for round-robin.

    Raises:
        UsageError: there is no such way.
    """
    try:
        return _WAYS[dist]
    except KeyError:
        raise UsageError(f"there is no distribution {dist!r}", 'use "b" (blocks) or "r" (round-robin)') from None


def as_sequences(sequences: Iterable[Any]) -> list[Any]:
    """Sequences that can be cut, of one length: that of the shortest.

    Raises:
        UsageError: there is none.
    """
    cut = [
        one if hasattr(one, "__getitem__") and hasattr(one, "__len__") and not isinstance(one, dict) else list(one)
        for one in sequences
    ]
    if not cut:
        raise UsageError("there must be a sequence to map onto")
    shortest = min(map(len, cut))
    return [one if len(one) == shortest else one[:shortest] for one in cut]
