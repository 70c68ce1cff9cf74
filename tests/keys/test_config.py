"""cluster.toml: read strictly; every error is one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secure_ipp.keys.config import ClusterConfig, ConfigError, format_config, parse_config
from secure_ipp.keys.issuer import IssuerKey

GOOD = ClusterConfig(
    cluster="lab", cluster_id="A" * 22, client_port=25001, engine_port=25002, hosts=("127.0.0.1", "::1", "n1.example"),
    bind="*", curve=True, issuer_key=IssuerKey.generate().public(),
)
TEXT = format_config(GOOD)


def test_it_goes_round():
    assert parse_config(TEXT) == GOOD


def test_doors_and_endpoints():
    assert GOOD.doors(5) == ("tcp://127.0.0.1:5", "tcp://[::1]:5", "tcp://n1.example:5")
    assert GOOD.endpoints(5) == ["tcp://*:5"]
    bound = parse_config(TEXT.replace(b'bind = "*"', b'bind = "10.0.0.1"'))
    assert bound.endpoints(5) == ["tcp://10.0.0.1:5"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"lab"', b'"../lab"'), (b"25001", b"0"), (b"25001", b"65536"), (b"25001", b'"25001"'), (b"25001", b"25002"),
        (b"25001", b"25001.0"), (b'bind = "*"', b'bind = "a b"'), (b'bind = "*"', b'bind = ""'),
        (b'"n1.example"', b'"n1;x"'), (b'hosts = ["127.0.0.1", "::1", "n1.example"]', b"hosts = []"),
        (b"curve = true", b"curve = false"), (b"curve = true", b""), (b"curve = true", b"curve = true\ncurve = true"),
        (b"curve = true", b"curve = true\nshell = 'x'"), (b"cluster = ", b"\xff"), (b"[", b"[[[[[[["), (b"AAA", b"AA="),
    ],
)
def test_each_flaw_is_a_config_error(old, new):
    assert old in TEXT
    with pytest.raises(ConfigError) as caught:
        parse_config(TEXT.replace(old, new, 1))
    assert "cluster.toml" in caught.value.message
    assert caught.value.advice


@given(st.integers(0, len(TEXT) - 1), st.binary(max_size=3), st.integers(0, 3))
def test_damaged_text_is_refused_or_read(at, put, cut):
    try:
        assert isinstance(parse_config(TEXT[:at] + put + TEXT[at + cut :]), ClusterConfig)
    except ConfigError:
        pass


@given(st.one_of(st.binary(max_size=100), st.text(max_size=100).map(str.encode)))
def test_any_bytes_raise_config_errors_only(data):
    with pytest.raises(ConfigError):
        parse_config(data)
