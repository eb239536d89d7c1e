"""The process backend passes the conformance suite, with cgroups and without."""

from __future__ import annotations

import pytest
from agent_backend_process.backend import ProcessBackend

from agent_core.testing import ContainerBackendContract


class TestProcessBackend(ContainerBackendContract):
    image = "sh"

    @pytest.fixture
    def plugin(self):
        return ProcessBackend

    @pytest.fixture
    def entry_module(self):
        return "agent_backend_process.plugin"

    @pytest.fixture
    def bad_config(self):
        return {"images": {"x": "/no/such/interpreter", "y:1": "/bin/sh"}}


class TestProcessBackendWithoutCgroups(TestProcessBackend):
    @pytest.fixture
    def config(self):
        return {"kill": "process-tree"}
