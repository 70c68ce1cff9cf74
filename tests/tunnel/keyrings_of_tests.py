"""A keyring in a file, for tests that need one in several processes; no back end for anybody else."""

from __future__ import annotations

import json
import os
from pathlib import Path

from keyring import backend


class InFile(backend.KeyringBackend):
    """Keeps everything in clear in the file that KEYRING_OF_TESTS names."""

    priority = 1  # type: ignore[assignment]

    def _all(self) -> dict[str, str]:
        path = Path(os.environ["KEYRING_OF_TESTS"])
        return dict(json.loads(path.read_text())) if path.exists() else {}

    def _keep(self, kept: dict[str, str]) -> None:
        Path(os.environ["KEYRING_OF_TESTS"]).write_text(json.dumps(kept))

    def get_password(self, service: str, username: str) -> str | None:
        return self._all().get(f"{service} {username}")

    def set_password(self, service: str, username: str, password: str) -> None:
        self._keep({**self._all(), f"{service} {username}": password})

    def delete_password(self, service: str, username: str) -> None:
        kept = self._all()
        del kept[f"{service} {username}"]
        self._keep(kept)
