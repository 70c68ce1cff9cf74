"""A client of a cluster that its user does not trust, and real engines: what comes through, and what must be said."""

from __future__ import annotations

import fractions
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import secure_ipp as ipp
from tests.running import RunningCluster

pytestmark = pytest.mark.live
NAME = "email.message:Message"  # of the standard library; a class that is no plain data


@pytest.fixture
def guest(cluster: RunningCluster) -> Iterator[Any]:
    with ipp.Client(str(cluster.place.client_file), timeout=20, results="data") as client:
        client.wait_for_engines(2, timeout=20)
        yield client


def letter(subject: str) -> Any:
    from email.message import Message

    made = Message()
    made["Subject"] = subject
    return made


def test_plain_data_needs_no_word(guest: Any) -> None:
    view = guest.load_balanced_view()
    assert view.map_sync(lambda x: {"x": x, "y": [x] * 2}, range(5))[4] == {"x": 4, "y": [4, 4]}
    large = view.apply_sync(lambda: __import__("numpy").arange(300_000.0))
    np.testing.assert_array_equal(large, np.arange(300_000.0))
    large[0] = 1
    assert view.apply_sync(lambda: __import__("fractions").Fraction(1, 3)) == fractions.Fraction(1, 3)
    guest[:].push({"a": 5}, block=True)
    assert guest[:]["a"] == [5, 5]


def test_more_is_an_error_that_says_the_name_and_the_name_is_enough(guest: Any) -> None:
    view = guest.load_balanced_view()
    result = view.apply_async(letter, "hello")
    with pytest.raises(ipp.UntrustedResult) as caught:
        result.get(timeout=20)
    assert NAME in caught.value.names and f'allow=["{NAME}"' in caught.value.advice
    names = list(caught.value.names)
    assert result.get(allow=names)["Subject"] == "hello"
    allowing = guest.load_balanced_view(allow=names)
    assert [one["Subject"] for one in allowing.map_sync(letter, "abc")] == ["a", "b", "c"]
    assert allowing.apply_sync(letter, "x")["Subject"] == "x"
    with view.temp_flags(results="any"):
        assert view.apply_sync(letter, "y")["Subject"] == "y"
    with pytest.raises(ipp.UntrustedResult):
        view.apply_sync(letter, "z")


def test_a_client_takes_names_for_all_its_views(cluster: RunningCluster) -> None:
    names = [NAME, "email._policybase:Compat32"]
    with ipp.Client(str(cluster.place.client_file), timeout=20, results="data", allow=names) as client:
        client.wait_for_engines(2, timeout=20)
        assert [one["Subject"] for one in client[:].apply_sync(letter, "hello")] == ["hello", "hello"]
    with pytest.raises(ipp.SecureIppError, match="never allowed by name"):
        ipp.Client(str(cluster.place.client_file), allow=["os:system"])


def test_what_an_untrusted_engine_prints_is_harmless(guest: Any, capsys: pytest.CaptureFixture[str]) -> None:
    result = guest[0].execute("print('\\x1b]0;owned\\x07seen\\x1b[2J'); 1", silent=False)
    result.get(timeout=20)
    assert result.stdout == "seen\n"
    result.display_outputs()
    assert "\x1b" not in capsys.readouterr().out
    code = "from IPython.display import HTML; HTML('<script>x</script>')"
    shown = guest[0].execute(code, silent=False).get(timeout=20)
    assert shown._repr_html_() is None and "not shown: text/html" in shown._repr_mimebundle_()[0]["text/plain"]
