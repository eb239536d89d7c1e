"""A Docker backend at work for one test, on an engine of the tests' own."""

from __future__ import annotations

import pytest
from agent_backend_docker.backend import DockerBackend

from agent_core.testing.backend_bench import Setting


@pytest.fixture
def options():
    """What the backend is configured with beside the socket; a test overrides it."""
    return {}


@pytest.fixture
def setting(request, options, tmp_path):
    """A bench on the shared engine, or on one of the test's own where it has asked for that."""
    engine = request.getfixturevalue("engine")
    config = {"host": f"unix://{engine.socket}", **options}
    env = {"PATH": "/bin"}
    return Setting(DockerBackend, config, tmp_path / "state", "busybox:latest", env, "/tmp", 60.0)
