"""The verifier: alone in its file, right about every vector, and never at a loss for words."""

from __future__ import annotations

import ast
import json
import os
import random
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secure_ipp.audit import verify as verifier
from tests.audit.journals import checked, kinds, long_journal
from tests.vectors import make_journal

VECTORS = Path(__file__).parents[1] / "vectors" / "journal"
TOLD = json.loads((VECTORS / "vectors.json").read_text())
NAMES = [vector["name"] for vector in TOLD["vectors"]]
FLAWED = ["edited", "deleted", "swapped", "truncated", "re-sealed", "gap", "unsealed", "forked"]


def told(name):
    return next(vector for vector in TOLD["vectors"] if vector["name"] == name)


def run_alone(directory, *options):
    """The file by itself, in an interpreter that could not import anything else of ours."""
    return subprocess.run(
        [sys.executable, "-I", "-c", "import sys, runpy; sys.modules['secure_ipp'] = None; sys.argv = sys.argv[1:]; "
         "runpy.run_path(sys.argv[0], run_name='__main__')", verifier.__file__, str(directory), *options],
        capture_output=True, text=True, timeout=60, cwd="/", check=False,
    )


@pytest.mark.parametrize("name", NAMES)
def test_vectors(name):
    vector = told(name)
    report = verifier.verify(VECTORS / name, TOLD["issuer"], vector["heads"])
    found = [[one.kind, one.number] for one in report.findings]
    assert report.ok is (vector["findings"] == []), report.findings
    assert len(found) == len(vector["findings"]) or name == "re-sealed", found
    for (kind, number), (expected, where) in zip(found, vector["findings"], strict=False):
        assert kind == expected
        assert where in (None, number)
    for finding in report.findings:
        assert (VECTORS / name / finding.file).is_file()
        assert finding.line > 0


def test_every_flaw_has_a_vector():
    assert set(FLAWED) <= set(NAMES)


def test_the_vectors_are_made_by_their_script_and_hold_no_secret(tmp_path):
    make_journal.main(tmp_path / "again")
    made = {path.relative_to(tmp_path / "again"): path.read_bytes()
            for path in (tmp_path / "again").rglob("*") if path.is_file()}
    kept = {path.relative_to(VECTORS): path.read_bytes() for path in VECTORS.rglob("*") if path.is_file()}
    assert made == kept
    secrets = [make_journal.ISSUER.text, make_journal.TestKeys("the journal").generate().text]
    assert not any(secret.encode() in data for secret in secrets for data in kept.values())


def test_the_verifier_needs_nothing_but_the_standard_library_and_cryptography():
    tree = ast.parse(Path(verifier.__file__).read_text())
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    foreign = {name.split(".")[0] for name in imported} - set(sys.stdlib_module_names)
    assert foreign == {"cryptography"}


@pytest.mark.parametrize("name", ["whole", "edited", "pruned"])
def test_the_verifier_runs_alone(name):
    ran = run_alone(VECTORS / name, "--issuer", TOLD["issuer"], "--json")
    assert ran.returncode == (name == "edited"), ran.stderr
    assert json.loads(ran.stdout)["ok"] is (name != "edited")
    words = run_alone(VECTORS / name, "--issuer", TOLD["issuer"]).stdout
    assert ("IS NOT WHOLE" in words) is (name == "edited")


def test_heads_are_given_as_text_or_file(tmp_path):
    head = told("truncated")["heads"][0]
    (tmp_path / "head.json").write_text(json.dumps(head))
    for since in (json.dumps(head), str(tmp_path / "head.json")):
        assert run_alone(VECTORS / "whole", "--issuer", TOLD["issuer"], "--since", since).returncode == 0
        ran = run_alone(VECTORS / "truncated", "--issuer", TOLD["issuer"], "--since", since)
        assert ran.returncode == 1
        assert "truncated" in ran.stdout
    assert run_alone(VECTORS / "truncated", "--issuer", TOLD["issuer"]).returncode == 0  # no more is promised


@pytest.mark.parametrize("change", [{"hash": "A" * 43}, {"number": 3}, {"format": "x"}, {"line": "{}"}])
def test_a_head_that_contradicts_itself_is_no_head(change):
    head = {**told("truncated")["heads"][0], **change}
    with pytest.raises((ValueError, KeyError)):
        verifier.read_head(json.dumps(head))
    ran = run_alone(VECTORS / "whole", "--issuer", TOLD["issuer"], "--since", json.dumps(head))
    assert ran.returncode in (1, 2)


def test_nothing_there_is_no_verdict(tmp_path):
    ran = run_alone(tmp_path, "--issuer", TOLD["issuer"])
    assert (ran.returncode, ran.stdout) == (2, "")


def test_another_issuer_is_told():
    report = verifier.verify(VECTORS / "whole", "A" * 43)
    assert kinds(report) == {"genesis"}


def test_words_from_outside_reach_no_terminal():
    for vector in TOLD["vectors"]:
        report = verifier.verify(VECTORS / vector["name"], TOLD["issuer"], vector["heads"])
        assert all(line.isprintable() and line.isascii() for line in verifier.in_words(report))
    for path in VECTORS.rglob("segment-*"):
        if "damaged" not in str(path):
            assert re.fullmatch(rb"[ -~\n]*", path.read_bytes())


def test_a_line_under_way_is_a_note(place, issuer):
    long_journal(place)
    newest = sorted(place.journal_dir.glob("segment-*"))[-1]
    newest.write_bytes(newest.read_bytes() + b'{"n":9')
    report = checked(place, issuer)
    assert report.ok
    assert "not finished" in report.notes[0]


def flawed(data: bytes, choice: random.Random) -> bytes:
    """The bytes of a segment with one change that its owner did not make."""
    lines = data.split(b"\n")
    index = choice.randrange(len(lines) - 1)
    match choice.randrange(5):
        case 0:
            at = choice.randrange(len(data))
            return data[:at] + bytes([data[at] ^ (1 << choice.randrange(8))]) + data[at + 1 :]
        case 1:
            lines.pop(index)
        case 2:
            lines.insert(index, choice.choice(lines[:-1]))
        case 3:
            lines.insert(index, lines.pop(choice.randrange(len(lines) - 1)))
        case 4:
            at = choice.randrange(len(data))
            return data[:at] + data[at + 1 :]
    return b"\n".join(lines)


@settings(max_examples=300, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_s20_any_one_change_is_found(seed, tmp_path_factory):
    choice = random.Random(seed)
    directory = tmp_path_factory.mktemp("changed")
    shutil.copytree(VECTORS / "whole", directory / "j")
    path = choice.choice(sorted((directory / "j").glob("segment-*")))
    before = path.read_bytes()
    path.write_bytes(flawed(before, choice))
    report = verifier.verify(directory / "j", TOLD["issuer"], told("whole")["heads"])
    assert report.ok is (path.read_bytes() == before), report
    shutil.rmtree(directory)


@settings(max_examples=200, deadline=None)
@given(data=st.lists(st.one_of(st.binary(max_size=80), st.sampled_from([
    b'{"n":0,"prev":"","event":"genesis","at":0}', b'{"n":1,"prev":"x","event":"checkpoint","at":1,"index":[],"key":4}',
    b'{"n":0,"prev":"","event":"end","at":"x"}', b'{"n":1e5,"prev":"', b'{"n":2,"prev":"","event":"renewed","at":null}',
    b'{"n":3,"prev":"","event":"pruned","at":1,"through":"9"}',
]))))
def test_s20_any_bytes_get_a_verdict(data, tmp_path_factory):
    directory = tmp_path_factory.mktemp("bytes")
    (directory / "segment-0000000000000000.jsonl").write_bytes(b"\n".join(data))
    assert not verifier.verify(directory, TOLD["issuer"]).ok
    shutil.rmtree(directory)


def test_the_file_can_be_read_by_an_auditor():
    assert stat.S_IMODE(os.stat(verifier.__file__).st_mode) & 0o444
    assert len(Path(verifier.__file__).read_text().splitlines()) <= 400
