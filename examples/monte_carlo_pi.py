"""An estimate of pi by throwing darts, with live progress.

    python examples/monte_carlo_pi.py [--darts 40_000_000] [--quick]

Each task throws a batch of darts with a generator of its own, seeded by the task's number, so that a run can be
repeated whatever engine a batch lands on. The estimate and its error are shown while results come in.
"""

from __future__ import annotations

import argparse
import math

from tqdm import tqdm

import secure_ipp as ipp

BATCH = 500_000


def throw(seed: int, darts: int) -> int:
    """How many of so many darts, thrown at the unit square, lie within the quarter circle."""
    import random

    dice = random.Random(seed).random
    return sum(dice() ** 2 + dice() ** 2 < 1.0 for _ in range(darts))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--darts", type=int, default=40_000_000)
    parser.add_argument("--quick", action="store_true", help="a hundredth of that, for tests")
    arguments = parser.parse_args()
    batch = BATCH // 100 if arguments.quick else BATCH
    batches = max(1, arguments.darts // BATCH)

    with ipp.Cluster() as client:
        view = client.load_balanced_view()
        results = view.map_async(throw, range(batches), [batch] * batches, ordered=False)
        inside = thrown = 0
        with tqdm(results, total=batches, unit="batch") as bar:
            for hits in bar:
                inside, thrown = inside + hits, thrown + batch
                estimate = 4 * inside / thrown
                share = inside / thrown
                error = 4 * math.sqrt(share * (1 - share) / thrown)
                bar.set_postfix_str(f"pi = {estimate:.5f} ± {error:.5f}")
    print(f"{thrown:,} darts on {len(set(results.engine_id))} engines: pi = {estimate:.6f} ± {error:.6f}")
    print(f"off by {abs(estimate - math.pi):.6f}")


if __name__ == "__main__":
    main()
