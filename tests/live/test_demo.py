"""The demo: the whole of it, on the whole standard library, and what makes it fail."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from secure_ipp.cli import demo
from secure_ipp.cli.standard_library import Module, Tally, modules, survey
from tests.running import ROOT, command, our_processes

pytestmark = pytest.mark.live


def test_the_demo_accounts_for_every_file_and_refuses_the_stranger(home: Path, own_tmp: Path) -> None:
    done = command("secure-ipp", "demo", "-n", "2", "--json", seconds=110)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    _, paths = modules()
    assert report["files"] == len(paths) == report["parsed"] + len(report["not_parsable"])
    assert report["missing"] == [] and report["client_door"] == "refused" and report["engine_door"] != "admitted"
    assert len(report["largest"]) == 10 and report["lines"] > 100_000
    assert list(own_tmp.glob("secure-ipp-*")) == []  # the keys are gone
    assert list(home.iterdir()) == []  # the user's own home is not touched
    assert not our_processes(home)


def test_a_file_that_nobody_answered_for_or_an_open_door_is_a_failure() -> None:
    whole = Tally({"a.py"})
    whole.add(Module("a.py", 1, 0, 0, ""))
    assert demo.Report("/", whole, 1, 1.0, 1.0, "refused", "silent").succeeded
    assert not demo.Report("/", Tally({"a.py"}), 1, 1.0, 1.0, "refused", "silent").succeeded
    for client_door, engine_door in (("admitted", "refused"), ("silent", "refused"), ("refused", "admitted")):
        assert not demo.Report("/", whole, 1, 1.0, 1.0, client_door, engine_door).succeeded


def test_an_answer_counts_once_and_only_if_it_was_asked_for() -> None:
    tally = Tally({"a.py"})
    with pytest.raises(ValueError, match=r"b\.py"):
        tally.add(Module("b.py", 1, 0, 0, ""))
    tally.add(Module("a.py", 1, 0, 0, ""))
    with pytest.raises(ValueError, match="has been answered"):
        tally.add(Module("a.py", 1, 0, 0, ""))


def test_a_file_that_cannot_be_parsed_says_why(tmp_path: Path) -> None:
    bad, good, missing = tmp_path / "bad.py", tmp_path / "good.py", tmp_path / "missing.py"
    bad.write_text("print 'two'\n")
    good.write_text("class A:\n    def f(self): ...\n\nasync def g(): ...")
    assert survey(str(good)) == (str(good), 4, 2, 1, "")
    assert "SyntaxError" in survey(str(bad))[4]
    assert "FileNotFoundError" in survey(str(missing))[4]


@pytest.mark.parametrize("example", ["standard_library.py", "monte_carlo_pi.py"])
def test_the_examples_run(example: str, home: Path) -> None:
    import os
    import subprocess
    import sys

    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / example), "--quick"], capture_output=True, text=True, timeout=100,
        check=False, env={**os.environ, "SECURE_IPP_HOME": str(home)},
    )
    assert done.returncode == 0, done.stdout + done.stderr
