"""``secure-ipp keys``: what it makes, shows and refuses, and how errors and exit codes look."""

import json

import click
import pytest
from click.testing import CliRunner

from secure_ipp import errors
from secure_ipp.cli.keys import keys
from secure_ipp.cli.options import ExitCode, Failing, exit_code, run_safely
from secure_ipp.keys.capability import load_capability
from secure_ipp.keys.cluster_keys import load_issuer, load_server
from secure_ipp.keys.places import ClusterPlace, NoKeys
from secure_ipp.keys.registry import Registry


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("SECURE_IPP_HOME", str(tmp_path / "home"))
    return ClusterPlace("default")


def run(*words):
    return CliRunner().invoke(keys, words)


def secrets_of(place):
    files = [load_capability(place.client_file), load_capability(place.engine_file)]
    return [load_issuer(place).text, load_server(place).keys.secret.text, *(one.secret_key.text for one in files)]


def test_init_tells_what_was_made_and_what_to_copy(place):
    result = run("init", "--host", "head.example", "--client-port", "23001", "--engine-port", "23002")
    assert result.exit_code == 0
    for text in [str(place.client_file), str(place.engine_file), "23001", "23002", "head.example", "ipcluster start"]:
        assert text in result.output
    assert load_server(place).keys.fingerprint in result.output
    assert not any(secret in result.output for secret in secrets_of(place))


def test_init_as_json(place):
    facts = json.loads(run("init", "--json", "--cluster", "lab", "--host", "a", "--host", "b").stdout)
    lab = ClusterPlace("lab")
    assert facts["client_door"] == list(load_capability(lab.client_file).door)
    assert facts["engine_file"] == str(lab.engine_file)
    assert [grant["name"] for grant in facts["grants"]] == ["owner", "engines"]


def test_init_on_loopback_says_that_nobody_else_can_connect(place):
    assert "listens on this host only" in run("init", "--bind", "127.0.0.1").output


def test_init_overwrites_nothing(place):
    run("init")
    before = place.client_file.read_bytes()
    result = run("init")
    assert result.exit_code == ExitCode.ENVIRONMENT
    assert "already has keys" in result.stderr
    assert "nothing is overwritten" in result.stderr
    assert place.client_file.read_bytes() == before


def test_list(place):
    run("init")
    result = run("list")
    grants = Registry.load(place).grants
    for grant in grants:
        assert any(grant.name in line and grant.key.fingerprint in line for line in result.output.splitlines())
    facts = json.loads(run("list", "--json").stdout)
    assert [one["id"] for one in facts["grants"]] == [grant.id for grant in grants]
    assert facts["grants"][1]["engines"] == grants[1].engines


def test_s11_nothing_that_is_shown_is_secret(place):
    run("init")
    shown = "".join(
        run(*words, *more).output
        for words in [("list",), ("show", "owner"), ("show", "engines"), ("show", str(place.client_file))]
        for more in [(), ("--json",)]
    )
    assert not any(secret in shown for secret in secrets_of(place))
    assert load_capability(place.client_file).public_key.fingerprint in shown


def test_show_a_file(place):
    run("init")
    facts = json.loads(run("show", "--json", str(place.engine_file)).stdout)
    assert facts["role"] == "engine"
    assert facts["made_here"] is True
    assert facts["expired"] is False
    assert "made here" in run("show", str(place.engine_file)).output


def test_show_what_is_not_there(place):
    run("init")
    assert run("show", "nobody").exit_code == ExitCode.USAGE
    assert run("show", "./nothing.json").exit_code == ExitCode.ENVIRONMENT


def test_show_a_file_that_others_could_read(place):
    run("init")
    place.client_file.chmod(0o644)
    result = run("show", str(place.client_file))
    assert result.exit_code == ExitCode.REFUSED
    assert "chmod 600" in result.stderr


def test_errors_as_json(place):
    result = run("list", "--json")
    assert result.exit_code == ExitCode.NO_KEYS
    assert result.stdout == ""
    error = json.loads(result.stderr)["error"]
    assert error["code"] == "no-keys"
    assert "secure-ipp keys init" in error["advice"]


def test_a_name_that_is_none(place):
    result = run("list", "--cluster", "../x")
    assert result.exit_code == ExitCode.USAGE
    assert "is not a name" in result.stderr


@pytest.mark.parametrize("words", [("--profile", "p"), ("--profile", "p", "--cluster-id", "c"), ("--cluster-id", "c")])
def test_words_of_ipyparallel_name_the_cluster(place, words):
    named = {2: {"--profile": "p", "--cluster-id": "default-c"}[words[0]], 4: "p-c"}[len(words)]
    assert run("init", *words).exit_code == 0
    assert ClusterPlace(named).config.exists()


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.SecureIppError("x"), 1),
        (errors.UsageError("x"), 2),
        (NoKeys("x"), 3),
        (errors.EnvironmentProblem("x", code="not-running"), 4),
        (errors.Refused("x"), 5),
        (errors.CapabilityError("x"), 5),
        (errors.PrivateFileError("x"), 5),
        (errors.ControllerUnreachable("x"), 6),
        (errors.ProtocolError("x"), 6),
        (errors.EnvironmentProblem("x"), 7),
        (errors.EngineSideError("x"), 1),
    ],
)
def test_exit_codes(error, code):
    assert exit_code(error) == code

    @click.command()
    @run_safely
    def by_decorator():
        raise error

    class FailingCommand(Failing):
        pass

    @click.command(cls=FailingCommand)
    @click.option("--json", is_flag=True)
    def by_class(json):
        raise error

    assert CliRunner().invoke(by_decorator).exit_code == code
    result = CliRunner().invoke(by_class, ["--json"])
    assert result.exit_code == code
    assert json.loads(result.stderr)["error"]["message"] == "x"
