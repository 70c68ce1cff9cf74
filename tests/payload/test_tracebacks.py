"""Exceptions as bounded text."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from secure_ipp import limits
from secure_ipp.payload.tracebacks import error_info, plain_error
from secure_ipp.wire.messages import ErrorInfo

decode = msgspec.msgpack.Decoder(ErrorInfo).decode


def accepted(info: ErrorInfo) -> bool:
    """Would its message be taken, and is it small?"""
    data = msgspec.msgpack.encode(info)
    return decode(data) == info and len(data) < limits.FRAME_BYTES


def test_deep_and_long_errors_are_cut_and_say_so() -> None:
    def deep(n: int) -> None:
        if n:
            deep(n - 1)
        raise ValueError("x" * 1_000_000)

    try:
        deep(500)
    except ValueError as error:
        info = error_info(error)
    assert accepted(info)
    assert "cut" in info.evalue and any("more" in line for line in info.traceback)


def test_errors_that_misbehave() -> None:
    class Odd(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    assert accepted(error_info(Odd()))
    loop = ValueError("\udcff")
    loop.__cause__ = loop
    assert accepted(error_info(loop, advice="do this"))
    assert "do this" in error_info(loop, advice="do this").evalue


@given(st.text(max_size=3000), st.text(st.characters(), max_size=3000), st.lists(st.text(), max_size=300))
def test_any_text_is_accepted(name: str, value: str, lines: list[str]) -> None:
    assert accepted(plain_error(name, value, lines))
