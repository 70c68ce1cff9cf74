"""The restricted loader: pickles from engines that may hold plain data, and what their user allowed by name (S19).

Laws.
- Every stream is looked through before anything is made of it (`opcodes`); what is made is made by `builder`, which
  calls nothing that the tables do not name, or, where nothing is named at all, by Python's own unpickler.
- Whatever goes wrong comes out as `UntrustedResult`; nothing that was not allowed has run then.
- Memory is bounded by a constant times the bytes that came.  Not promised: time, which an engine can waste anyway.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Iterable
from typing import Any

from secure_ipp.payload import opcodes
from secure_ipp.payload.allowed import NOTHING, Allowed
from secure_ipp.payload.builder import Builder
from secure_ipp.payload.untrusted import UntrustedResult, unnamed

__all__ = ["UntrustedResult", "loads_data"]


class _NamingNothing(pickle.Unpickler):
    """For streams that ask for no name."""

    def find_class(self, module: str, name: str, /) -> Any:
        raise unnamed("names something where nothing was to be named")


def loads_data(stream: Any, buffers: Iterable[Any], allowed: Allowed = NOTHING) -> Any:
    """Rebuild plain data from bytes that an untrusted engine made.

    Args:
        stream: bytes-like.
        buffers: out-of-band ones.
        allowed: what else may be called.

    Raises:
        UntrustedResult: the bytes are no pickle, or one of more than that.
    """
    try:
        whole = stream if type(stream) is bytes else bytes(stream)
        contents = opcodes.read(whole)
        if contents.calls or contents.shares:
            return Builder(whole, iter(buffers), allowed).build()
        return _NamingNothing(io.BytesIO(whole), buffers=buffers).load()
    except UntrustedResult:
        raise
    except Exception as error:  # hostile bytes fail in every way there is
        raise unnamed(f"could not be read ({type(error).__name__})") from error
