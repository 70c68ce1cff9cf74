"""No key is ever tracked: keys/ holds its two files, and nothing in the repository looks like a secret's file."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GIT = ["git", "-c", f"safe.directory={ROOT}"]


@pytest.fixture(scope="module")
def tracked():
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listing = subprocess.run([*GIT, "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, timeout=60).stdout
    return [name.decode() for name in listing.split(b"\0") if name]


def test_the_keys_directory_holds_two_files(tracked):
    assert sorted(name for name in tracked if name.startswith("keys/")) == ["keys/.gitignore", "keys/README.md"]


def test_git_ignores_what_lies_there():
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    for name in ("server.key", "lab/ipcontroller-client.json", "x/issuer.key"):
        answer = subprocess.run([*GIT, "check-ignore", "-q", f"keys/{name}"], cwd=ROOT, timeout=60, check=False)
        assert answer.returncode == 0


def test_no_tracked_file_is_a_key_file(tracked):
    secret = re.compile(rb'"secret_key"\s*:\s*"[A-Za-z0-9_-]{43}"|-----BEGIN [A-Z ]*PRIVATE KEY-----')
    for name in tracked:
        path = ROOT / name
        if path.is_symlink() or not path.is_file() or path == Path(__file__):
            continue
        assert path.suffix != ".key", name
        assert not secret.search(path.read_bytes()), name


def test_the_search_finds_what_it_looks_for():
    from secure_ipp.keys.curve import KeyPair

    text = json.dumps({"secret_key": KeyPair.generate().secret.text})
    assert re.search(r'"secret_key"\s*:\s*"[A-Za-z0-9_-]{43}"', text)
