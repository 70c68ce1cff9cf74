"""Reach a cluster from outside, by whatever way leads there, and compute something on all its engines.

    python through_ssh.py ipcontroller-client.json                       the way that the file knows
    python through_ssh.py ipcontroller-client.json you@login.example.org   through this ssh server
"""

from __future__ import annotations

import sys

import secure_ipp as ipp


def inside(points: int) -> int:
    """How many of so many random points of the unit square lie within the quarter circle."""
    import random

    return sum(random.random() ** 2 + random.random() ** 2 <= 1 for _ in range(points))


def main() -> int:
    if len(sys.argv) not in (2, 3):
        print(__doc__, file=sys.stderr)
        return 2
    server = sys.argv[2] if len(sys.argv) == 3 else None
    try:
        client = ipp.Client(sys.argv[1], sshserver=server, timeout=30)
    except ipp.SecureIppError as error:
        print(error, file=sys.stderr)
        return 1
    with client:
        print(f"reached {client.way}")
        client.wait_for_engines(1, timeout=60)
        tasks, points = 20 * len(client), 20_000
        hits = client.load_balanced_view().map_sync(inside, [points] * tasks)
        print(f"pi is about {4 * sum(hits) / (tasks * points):.3f}, by {len(client)} engines")
    return 0


if __name__ == "__main__":
    sys.exit(main())
