"""Names, hosts and how ipyparallel's words for a cluster become one name (S22)."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secure_ipp.errors import UsageError
from secure_ipp.keys.names import check_host, check_name, cluster_name


@pytest.mark.parametrize("name", ["a", "0", "default", "my-cluster_2.b", "a" * 64])
def test_names(name):
    assert check_name(name) == name


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", ".hidden", "-rf", "_a", "A", "a b", "a/b", "a\n", "\u00e9", "a" * 65, "$a", "\uff41", 3, b"a"],
)
def test_s22_what_is_no_name(name):
    with pytest.raises(UsageError):
        check_name(name)


@given(st.text(max_size=80))
def test_a_name_is_one_harmless_component(text):
    try:
        assert check_name(text) == text
    except UsageError:
        assert not re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,63}", text)
    else:
        assert "/" not in text and not text.startswith((".", "-")) and text.isascii() and text.isprintable()


@pytest.mark.parametrize("host", ["localhost", "node-1.example.org", "10.0.0.1", "::1", "fe80::1", "n_1", "Node1"])
def test_hosts(host):
    assert check_host(host) == host


@pytest.mark.parametrize(
    "host",
    ["", "-o", "a b", "a:1", "[::1]", "fe80::1%eth0", "a/b", "a\n", "user@host", "a;tcp", "*", "a..b", "x" * 300, None],
)
def test_s22_what_is_no_host(host):
    with pytest.raises(UsageError):
        check_host(host)


@given(st.text(max_size=300))
def test_a_host_is_harmless_in_an_address(text):
    try:
        check_host(text)
    except UsageError:
        return
    assert not set(text) & set("/;@ \n\0[]%*") and not text.startswith("-")


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (("", "", ""), "default"),
        (("", "default", ""), "default"),
        (("", "p", ""), "p"),
        (("", "p", "c"), "p-c"),
        (("", "", "c"), "default-c"),
        (("k", "p", "c"), "k"),
    ],
)
def test_words_of_a_cluster(words, name):
    assert cluster_name(*words) == name


def test_words_that_make_no_name():
    with pytest.raises(UsageError):
        cluster_name(profile="../x")
