"""Ends of keys, as people type and read them."""

from __future__ import annotations

import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secure_ipp.errors import UsageError
from secure_ipp.keys.expiry import LONGEST_SECONDS, as_text, in_words, parse_expires

NOW = 1_900_000_000.75
UNITS = {"m": 60, "h": 3600, "d": 86400, "w": 604800}


@given(st.integers(1, 10**7), st.sampled_from(sorted(UNITS)))
def test_a_duration_counts_from_now(number: int, unit: str) -> None:
    seconds = number * UNITS[unit]
    if seconds > LONGEST_SECONDS:
        with pytest.raises(UsageError):
            parse_expires(f"{number}{unit}", NOW)
    else:
        assert parse_expires(f"{number}{unit}", NOW) == int(NOW) + seconds


@given(st.datetimes(datetime.datetime(1971, 1, 1), datetime.datetime(9990, 1, 1)), st.integers(-12 * 60, 14 * 60))
def test_a_date_means_the_moment_that_its_zone_says(moment: datetime.datetime, minutes: int) -> None:
    zone = datetime.timezone(datetime.timedelta(minutes=minutes))
    aware = moment.replace(microsecond=0, tzinfo=zone)
    text, meant = aware.isoformat(), int(aware.timestamp())
    if meant <= NOW:
        with pytest.raises(UsageError, match="past"):
            parse_expires(text, NOW)
    else:
        assert parse_expires(text, NOW) == meant
        assert as_text(meant) in in_words(meant, NOW)


def test_a_date_without_a_zone_is_utc_and_its_first_moment() -> None:
    first = parse_expires("2031-12-01", NOW)
    assert first == parse_expires("2031-12-01T00:00Z", NOW) == parse_expires("2031-12-01 01:00+01:00", NOW)
    assert as_text(first) == "2031-12-01 00:00:00 UTC"


def test_never_is_zero() -> None:
    assert parse_expires("never", NOW) == 0
    assert as_text(0) == in_words(0, NOW) == "never"


@pytest.mark.parametrize("text", [
    "", "0d", "-1d", "+1d", "1", "d", "1y", "1.5d", "1 d", "7D", "7d ago", "2031-13-01", "2031-02-30", "tomorrow",
    "Never", "2031-12-01T25:00", "2031-W01-1", "20311201", "\u0667d", "1e3d", "2031-12-01T10:00 Europe/Berlin",
    "x" * 10_000,
])
def test_what_is_no_end_is_refused_with_advice(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_expires(text, NOW)
    assert "7d" in caught.value.advice and len(caught.value.message) < 200


@given(st.text(max_size=30))
def test_any_text_is_a_later_end_or_an_error(text: str) -> None:
    try:
        expires = parse_expires(text, NOW)
    except UsageError:
        return
    assert expires == 0 or expires > NOW


@given(st.integers(1, 2**40), st.floats(0, 2**40))
def test_words_say_on_which_side_of_now_it_is(expires: int, now: float) -> None:
    words = in_words(expires, now)
    assert ("expired" in words) == (expires <= int(now))


def test_words() -> None:
    for seconds, words in [(1, "1 second"), (90, "1 minute 30 seconds"), (86400 * 7, "7 days"), (86400 + 60, "1 day"),
                           (3600 * 26, "1 day 2 hours")]:
        assert in_words(1_000_000 + seconds, 1_000_000).endswith(f"(in {words})")
        assert in_words(1_000_000, 1_000_000 + seconds).endswith(f"(expired {words} ago)")
