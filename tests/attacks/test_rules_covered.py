"""The rules, the attacks on them and the threat model belong together: none may be without the others."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
MODEL = ROOT / "docs" / "threat-model.md"
RULES = {
    "S1": "whatever is bound asks the gate and speaks Curve",
    "S2": "the real doors are tried with a stranger's key; the gate fails closed",
    "S3": "our own gate: never raises, denies on any error, never refuses a known key under a flood",
    "S4": "User-Id, Role and Grant come from the gate alone",
    "S5": "no peer claims a routing id, a role or a session",
    "S6": "routing ids cannot be foretold",
    "S7": "silent and half-open connections are cut, and nobody else",
    "S8": "a capability is pure data, strictly read",
    "S9": "private files and the directories above them",
    "S10": "the registry, the control socket, and a gate that does not hear the hub",
    "S11": "no secret in argv, environment, logs, reprs, tracebacks, cores",
    "S12": "the engine file joins, and nothing else; a known key is no new one",
    "S13": "sealed secrets: stolen, transplanted, doctored, hostile",
    "S14": "every message needs its right",
    "S15": "another's id is answered like an unknown one; digests are recomputed",
    "S16": "a result counts only under the ticket of its assignment",
    "S17": "revocation and expiry cut within a second; innocents lose nothing",
    "S18": "quotas and bounds: errors by name, back-pressure, or the peer's cut; never growth",
    "S19": "nothing is unpickled that is not trusted",
    "S22": "names; nothing from outside reaches a path or a shell",
    "S23": "no ssh server is sent anything before its key was verified",
    "S24": "nothing that sshtunnel does unsafely by itself",
    "S25": "less than Curve is an error; without it a proof is good once, here and now, at a socket of the owner's",
    "S26": "engines that can read the owner's keys are shown",
    "S27": "an engine of one's own holds nobody else's work, before or after",
    "S29": "locks and sockets on local file systems only",
    "S31": "what engines say drives no terminal and runs in no notebook",
    "S30": "identity is the envelope's; no envelope in an envelope",
    "S32": "a holder hands on less, for no longer, and what it handed on dies with it",
    "S33": "a server key that was given up is worth nothing; only the issuer says which one follows",
}


def named_tests(path: Path) -> dict[str, str]:
    """Names of the tests of a file, with what they say of themselves."""
    tree = ast.parse(path.read_text())
    return {
        node.name: ast.get_docstring(node) or ""
        for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


def attacks_on(rule: str) -> list[str]:
    in_name = re.compile(rf"test_.*(?<![a-z0-9]){rule.lower()}(?![0-9])(_|$)")
    in_words = re.compile(rf"\b{rule}\b")
    return [
        f"{path.name}::{name}"
        for path in sorted((ROOT / "tests" / "attacks").glob("test_*.py"))
        for name, words in named_tests(path).items() if in_name.match(name) or in_words.search(words)
    ]


def cited() -> list[tuple[str, str]]:
    """(path, test or "") of everything in the threat model that looks like a test."""
    found = re.findall(r"`(tests/[\w./-]*)(?:::(\w+))?`", MODEL.read_text())
    assert len(found) > 50
    return found


def guarantees() -> list[list[str]]:
    """Cells of each row of the tables of guarantees."""
    text = MODEL.read_text()
    part = text[text.index("## Guarantees") : text.index("## Not promised")]
    rows = [[cell.strip() for cell in line.strip("| \n").split(" | ")] for line in part.splitlines()
            if line.startswith("| ")]
    return [row for row in rows if row[0] != "guarantee"]


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_is_attacked(rule: str) -> None:
    assert attacks_on(rule), f"nothing in tests/attacks breaks {rule}: {RULES[rule]}"


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_stands_in_the_threat_model_with_an_attack_on_it(rule: str) -> None:
    attacks = set(attacks_on(rule))
    assert any(
        rule in re.split(r"[^S\d]+", row[2]) and any(attack in row[3] for attack in attacks) for row in guarantees()
    ), f"no guarantee names {rule} and one of {sorted(attacks)}"


@pytest.mark.parametrize("path, name", sorted(set(cited())))
def test_every_test_that_the_threat_model_cites_is_there(path: str, name: str) -> None:
    file = ROOT / path
    assert file.exists()
    assert not name or name in named_tests(file)


@pytest.mark.parametrize("row", guarantees(), ids=lambda row: row[0][:40])
def test_every_guarantee_has_its_rule_and_its_test(row: list[str]) -> None:
    assert len(row) == 4, "guarantee, against, rules, tests"
    assert re.search(r"\bS\d", row[2]) or "none" in row[2]
    assert re.search(r"`tests/[\w/]+\.py::test_\w+`", row[3]) or "not tested here" in row[3]


def test_the_threat_model_speaks_for_itself() -> None:
    """It is read by people who have nothing but this repository."""
    text = MODEL.read_text()
    assert not re.search(r"\bissues?\b|\.\./|/work|shared/", text)
    for rule in set(re.findall(r"\bS(\d+)\b", text)):
        assert 1 <= int(rule) <= 33


def test_the_search_for_attacks_can_come_back_empty() -> None:
    assert attacks_on("S1") != attacks_on("S12")
    assert not attacks_on("S99")
