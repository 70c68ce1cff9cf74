"""``secure-ipp audit``: what it shows of a journal, whom it takes for whom, and its verdict as an exit code."""

import csv
import io
import json

import pytest
from click.testing import CliRunner

from secure_ipp.audit import record as on_record
from secure_ipp.cli.audit import audit
from secure_ipp.cli.main import secure_ipp
from secure_ipp.cli.options import ExitCode
from secure_ipp.keys.cluster_keys import init_cluster
from secure_ipp.keys.places import ClusterPlace
from secure_ipp.keys.registry import Registry
from tests.audit.journals import asked, batch, opened
from tests.running import journal_lines

AT = 1_750_000_000.0


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("SECURE_IPP_HOME", str(tmp_path / "home"))
    place = ClusterPlace("default")
    init_cluster(place, hosts=["127.0.0.1"], now=AT - 10)
    journal = opened(place, AT)
    owner = Registry.load(place).named("owner")
    journal.write([
        on_record.GrantIssued(
            at=AT, version=1, id=owner.id, name="owner", role="client", fingerprint="f", rights=["task"], expires=0.0
        ),
        on_record.QuestionRefused(at=AT + 1, user=owner.id, question="=cmd()", reason="\x1b[2J\u202e\nforged #9"),
        on_record.Reported(at=AT + 2, what="gate", when=AT + 2, details={"user": "somebody", "status": "400"}),
        on_record.TasksEnded(at=AT + 3, tasks=[
            on_record.TaskRow(owner.id, f"t{n}", "apply", "direct", "", status, n, "e", AT, AT, AT, 1)
            for n, status in enumerate(["ok", "error"])
        ]),
    ])
    journal.close(AT + 4)
    return place


def run(*words, code=0):
    result = CliRunner().invoke(audit, words)
    assert result.exit_code == code, result.output
    return result


def shown(*words):
    return [json.loads(line) for line in run("show", "--json", *words).stdout.splitlines()]


def test_show_gives_each_record_and_each_task_a_line(place):
    events = [record["event"] for record in shown()]
    assert events == [
        "genesis", "grant_issued", "question_refused", "reported", "task_ended", "task_ended", "checkpoint"
    ]
    text = run("show").stdout
    assert len(text.splitlines()) == len(events)
    assert "2025-06-15T15:06:41.000Z  #2  question_refused" in text


def test_s31_what_peers_wrote_reaches_no_terminal(place):
    for output in (run("show").stdout, run("show", "--json").stdout, run("export", "--format", "csv").stdout):
        assert "forged #9" in output
        assert all(line.isprintable() and line.isascii() for line in output.splitlines())
        assert not any(line.startswith("forged") for line in output.splitlines())


def test_who_is_a_name_or_an_id(place):
    owner = Registry.load(place).named("owner").id
    by_name = shown("--who", "owner")
    assert [record["event"] for record in by_name] == ["grant_issued", "question_refused", "task_ended", "task_ended"]
    assert shown("--who", owner) == by_name
    assert [record["what"] for record in shown("--who", "somebody")] == ["gate"]
    assert shown("--who", "nobody") == []


def test_what_is_an_event_a_report_or_an_outcome(place):
    assert [record["event"] for record in shown("--what", "gate", "--what", "question_refused")] == [
        "question_refused", "reported",
    ]
    assert [record["task"] for record in shown("--what", "error")] == ["t1"]


def test_since_and_until(place):
    assert [record["n"] for record in shown("--since", "3")] == [3, 4, 4, 5]
    between = shown("--since", "2025-06-15T15:06:42", "--until", "2025-06-15T15:06:43+00:00")
    assert [record["n"] for record in between] == [3, 4, 4]
    assert shown("--since", "1h") == []
    run("show", "--since", "yesterday", code=ExitCode.USAGE)


def test_csv_is_csv_and_no_cell_is_a_formula(place):
    rows = list(csv.reader(io.StringIO(run("export", "--format", "csv").stdout)))
    assert {len(row) for row in rows} == {len(rows[0])}
    assert rows[0][:3] == ["n", "time", "event"]
    cells = [cell for row in rows for cell in row]
    assert not [cell for cell in cells if cell[:1] in ("=", "+", "-", "@")]
    assert "=cmd()" in str(rows)


def test_export_as_lines(place):
    assert [json.loads(line) for line in run("export").stdout.splitlines()] == shown()


def test_verify_and_head(place, tmp_path):
    assert "is whole" in run("verify").stdout
    found = json.loads(run("verify", "--json").stdout)
    assert found["ok"]
    assert found["checkpoints"] == 1
    head = run("head").stdout
    assert json.loads(head) == json.loads(run("head", "--json").stdout)
    (tmp_path / "head.json").write_text(head)
    run("verify", "--since", head, "--since", str(tmp_path / "head.json"))
    run("verify", "--since", "{}", code=ExitCode.USAGE)
    run("verify", "--since", str(tmp_path / "none"), code=ExitCode.USAGE)
    journal = opened(place)
    journal.write([asked(1), batch(2)])
    journal.close(AT + 9)
    run("verify", "--since", head)


def test_a_journal_that_is_not_whole_gives_status_1_and_says_where(place):
    segment = next(place.journal_dir.glob("segment-*"))
    segment.write_bytes(segment.read_bytes().replace(b'"status":"400"', b'"status":"200"'))
    assert "edited: segment-0000000000000000.jsonl line 5, number 3" in run("verify", code=ExitCode.FAILED).stdout
    assert not json.loads(run("verify", "--json", code=ExitCode.FAILED).stdout)["ok"]


def test_a_tail_that_was_cut_off_here_is_found_without_a_head(place):
    segment = next(place.journal_dir.glob("segment-*"))
    lines = segment.read_bytes().splitlines(keepends=True)
    segment.write_bytes(b"".join(lines[:-1]))
    assert "truncated" in run("verify", code=ExitCode.FAILED).stdout


def test_renew_goes_on_and_hides_nothing(place):
    segment = next(place.journal_dir.glob("segment-*"))
    segment.write_bytes(segment.read_bytes().replace(b'"status":"400"', b'"status":"200"'))
    told = json.loads(run("renew", "--reason", "a disk died", "--lost-through", "40", "--json").stdout)
    assert told == {"number": 41}
    opened(place).close(AT + 20)
    text = run("verify", code=ExitCode.FAILED).stdout
    assert "edited" in text
    assert "lines 6 to 40 are lost: a disk died" in text
    assert [line["n"] for line in journal_lines(place)] == [0, 1, 2, 3, 4, 5, 41, 42, 43]


def test_renew_of_nothing_begins_anew(place):
    for path in place.journal_dir.iterdir():
        path.unlink()
    run("show", code=ExitCode.ENVIRONMENT)
    run("verify", code=ExitCode.ENVIRONMENT)
    run("renew", "--reason", "lost")
    opened(place).close(AT + 20)
    run("verify")


def test_without_keys_and_without_a_checkpoint(tmp_path, monkeypatch):
    monkeypatch.setenv("SECURE_IPP_HOME", str(tmp_path / "home"))
    for words in (("show",), ("verify",), ("head",), ("export",), ("renew", "--reason", "x")):
        run(*words, code=ExitCode.NO_KEYS)
    init_cluster(ClusterPlace("default"), hosts=["127.0.0.1"])
    run("verify")
    assert "no checkpoint yet" in run("head", code=ExitCode.ENVIRONMENT).stderr


@pytest.mark.parametrize("words", [("--journal-keep", "0"), ("--journal-keep", "x"), ("--journal-sync", "off")])
def test_there_is_no_way_to_keep_no_journal(place, words):
    result = CliRunner().invoke(secure_ipp, ["controller", *words])
    assert result.exit_code == ExitCode.USAGE
