"""What ssh runs to ask something (SSH_ASKPASS): ``python -I -S askpass.py SOCKET PROMPT``.

It hands the prompt to the back end's socket and prints the answer; it knows nothing itself.  Run by its path, it
imports nothing of this package.  Protocol: the process id of who asks, the kind of prompt, the prompt, with line
breaks between, end; back comes "+" and the answer, or nothing, and then ssh is told that there is none.
"""

from __future__ import annotations

import os
import socket
import sys

_MOST_BYTES = 16 * 1024


def main(path: str, prompt: str) -> int:
    kind = os.environ.get("SSH_ASKPASS_PROMPT", "")  # "confirm": yes or no; "none": only shown, until ssh ends us
    with socket.socket(socket.AF_UNIX) as line:
        line.connect(path)
        line.sendall(f"{os.getppid()}\n{kind}\n{prompt}".encode("utf-8", "surrogateescape"))
        line.shutdown(socket.SHUT_WR)
        answer = b""
        while len(answer) < _MOST_BYTES and (part := line.recv(_MOST_BYTES)):
            answer += part
    if not answer.startswith(b"+"):
        return 1
    sys.stdout.buffer.write(answer[1:] + b"\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))
