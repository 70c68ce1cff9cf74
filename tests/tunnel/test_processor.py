"""What a system tells of its processor."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from secure_ipp.tunnel import processor


@pytest.fixture(autouse=True)
def asked_anew() -> Iterator[None]:
    processor.has_aes.cache_clear()
    yield
    processor.has_aes.cache_clear()


@pytest.mark.parametrize(("told", "expected"), [
    ("processor\t: 0\nflags\t\t: fpu sse2 aes xsave\n", True),
    ("processor\t: 0\nFeatures\t: fp asimd aes pmull\n", True),
    ("processor\t: 0\nFeatures\t: fp asimd evtstrm crc32\n", False),
    ("model name\t: aes\nflags\t\t: fpu vaes\n", False),
    ("", False),
])
def test_the_flags_decide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: str, expected: bool) -> None:
    place = tmp_path / "cpuinfo"
    place.write_text(told)
    monkeypatch.setattr(processor, "_KNOWN", place)
    monkeypatch.setattr(processor.sys, "platform", "linux")
    assert processor.has_aes() is expected


def test_a_system_that_does_not_tell_has_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processor, "_KNOWN", tmp_path / "none")
    monkeypatch.setattr(processor.sys, "platform", "freebsd14")
    assert processor.has_aes() is False
    processor.has_aes.cache_clear()
    monkeypatch.setattr(processor.sys, "platform", "darwin")
    assert processor.has_aes() is True
