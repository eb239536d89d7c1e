"""A process backend at work for one test, with cgroups where permitted and without."""

from __future__ import annotations

import pytest
from agent_backend_process.backend import ProcessBackend

from agent_core.testing.backend_bench import Setting


@pytest.fixture(params=["auto", "process-tree"])
def kill(request):
    return request.param


@pytest.fixture
def setting(kill, tmp_path):
    env = {"PATH": "/usr/local/bin:/usr/bin:/bin"}
    return Setting(ProcessBackend, {"kill": kill}, tmp_path / "state", "sh", env, str(tmp_path))
