import pytest

from secure_ipp.keys.places import ClusterPlace


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("SECURE_IPP_HOME", str(tmp_path / "home"))
    return ClusterPlace("default")
