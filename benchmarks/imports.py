"""What an import costs, over bare Python: a client's, and a controller's."""

from __future__ import annotations

import subprocess
import sys

from core.figure import Figure, Reach, Row, Stage, Values, timed
from core.run import alone

FIGURE = Figure(
    "imports",
    "Time of an import, over bare Python (best of several)",
    (
        Row("import_package", "import of the package", "ms", False, Reach(80)),
        Row("import_client", "import of client and cluster classes", "ms", False),
        Row("import_controller", "import of the controller", "ms", False),
    ),
    repetitions=3,
    quick_repetitions=1,
)


def _seconds(statement: str, times: int) -> float:
    return min(
        timed(lambda: subprocess.run([sys.executable, "-c", statement], check=True)) for _ in range(times)
    )


def measure(stage: Stage) -> Values:
    times = stage.amount(10, 4)
    bare = _seconds("", times)
    values: Values = {}

    def over_bare(statement: str) -> float:
        return (_seconds(statement, times) - bare) * 1000

    stage.offered(values, "import_package", lambda: over_bare(stage.peer.client_modules().partition(";")[0]))
    stage.offered(values, "import_client", lambda: over_bare(stage.peer.client_modules()))
    stage.offered(values, "import_controller", lambda: over_bare(stage.peer.controller_modules()))
    return values


if __name__ == "__main__":
    alone("imports")
