"""cluster.toml: read strictly; every error is one."""

import msgspec
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


FULL = msgspec.structs.replace(
    GOOD, ssh_door=True, ssh="ada@login.example:22", ssh_host_keys=(f"SHA256:{'a' * 42}A", f"SHA256:{'b' * 42}A"),
    require_post_quantum=True,
)
NO_CURVE = msgspec.structs.replace(FULL, client_port=0, engine_port=0, hosts=(), bind="", curve=False)


@pytest.mark.parametrize("config", [FULL, NO_CURVE], ids=["with curve", "without"])
def test_what_it_says_of_ssh_goes_round(config):
    assert parse_config(format_config(config)) == config


def test_one_of_an_earlier_time_is_read_and_says_nothing_of_ssh():
    new = ("ssh_door", "ssh =", "ssh_host_keys", "require_post_quantum")
    old = b"".join(line for line in TEXT.splitlines(keepends=True) if not line.decode().startswith(new))
    assert len(TEXT.splitlines()) - len(old.splitlines()) == 4
    assert parse_config(old) == GOOD


@pytest.mark.parametrize("changes", [
    {"client_port": 25001}, {"engine_port": 25002}, {"hosts": ("127.0.0.1",)}, {"bind": "*"}, {"ssh_door": False},
    {"curve": True},
])
def test_s25_without_curve_nothing_listens_on_tcp(changes):
    with pytest.raises(ConfigError) as caught:
        parse_config(format_config(msgspec.structs.replace(NO_CURVE, **changes)))
    assert caught.value.advice


@pytest.mark.parametrize(("old", "new"), [
    (b'ssh = "ada', b'ssh = "-ada'), (b'ssh = "ada@login.example:22"', b'ssh = ""'), (b"SHA256:a", b"SHA256:a="),
    (b"SHA256:bb", b"MD5:bb"), (b"ssh_door = true", b'ssh_door = "true"'), (b"ssh_door = true", b"ssh_door = 1"),
    (b"ssh_host_keys = [", b"ssh_host_keys = [1, "), (b"bbbbbA", b"bbbbbB"), (b"ssh = ", b"sshcmd = "),
    (b"require_post_quantum = true", b"require_post_quantum = []"),
])
def test_s22_each_flaw_in_what_it_says_of_ssh_is_a_config_error(old, new):
    text = format_config(FULL)
    assert old in text
    with pytest.raises(ConfigError) as caught:
        parse_config(text.replace(old, new, 1))
    assert caught.value.advice


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
