"""What the kernel is asked for: no core file, not dumpable, no life after the parent's."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest

linux = pytest.mark.skipif(sys.platform != "linux", reason="the kernel call is Linux's")


def python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=30, check=True
    )
    return done.stdout.strip()


@linux
def test_no_core_and_not_dumpable() -> None:
    out = python(
        """
        import ctypes, resource
        from secure_ipp import hardening
        hardening.keep_secrets_inside()
        print(resource.getrlimit(resource.RLIMIT_CORE), ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))
        """
    )
    assert out == "(0, 0) 0"


@linux
def test_a_child_ends_with_its_parent() -> None:
    """The child's end is seen as EOF on a pipe that only it holds."""
    code = """
        import os, sys, time
        from secure_ipp import hardening
        parent = os.getpid()
        if os.fork() == 0:
            hardening.end_with_parent(parent)
            os.write(1, b"%d\\n" % os.getpid())
            time.sleep(60)
        else:
            time.sleep(60)
    """
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert int(process.stdout.readline()) != process.pid
    process.kill()
    assert process.stdout.read() == b""  # returns when the last writer, the child, is gone
    process.wait()
    process.stdout.close()


@linux
def test_a_parent_that_is_already_gone_is_noticed() -> None:
    wrong = os.getpid() + 1_000_000
    code = f"from secure_ipp import hardening; hardening.end_with_parent({wrong}); print('still here')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=30, check=False)
    assert done.returncode == -9 and not done.stdout
