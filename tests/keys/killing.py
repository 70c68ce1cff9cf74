"""Processes that end at a chosen point: kill -9 before, or in the middle of, their k-th step that changes the disk."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable
from typing import Any

STEPS = ("open", "write", "fsync", "replace", "rename", "link", "unlink", "mkdir")


def fork(body: Callable[[], None]) -> int:
    """Run in a child process; its pid.  It exits with 0, or with 1 and a traceback on stderr."""
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        body()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def killed_at(step: int, body: Callable[[], None]) -> bool:
    """Run in a child that is killed at this step of those that change the disk, counted from 1.

    Returns:
        Whether it was killed; False: it had fewer steps and succeeded.
    """
    def with_kills() -> None:
        _arm(step)
        body()

    _, status = os.waitpid(fork(with_kills), 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.WEXITSTATUS(status) == 0
    return False


def _arm(step: int) -> None:
    left = step

    def counted(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            nonlocal left
            if name == "open" and not args[1] & os.O_CREAT:
                return real(*args, **options)
            left -= 1
            if left == 0:
                if name == "write":
                    real(args[0], bytes(args[1])[: len(args[1]) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*args, **options)

        return call

    for name in STEPS:
        setattr(os, name, counted(name, getattr(os, name)))
