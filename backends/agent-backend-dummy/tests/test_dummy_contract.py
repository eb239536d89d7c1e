"""The dummy backend and its scratch manager pass the conformance suites."""

from __future__ import annotations

import pytest
from agent_backend_dummy.backend import DummyBackend
from agent_backend_dummy.scratch import DummyScratch
from simulation import SimulatedSuite

from agent_core.testing import ScratchManagerContract


class TestDummyBackend(SimulatedSuite):
    backend = DummyBackend

    @pytest.fixture
    def entry_module(self):
        return "agent_backend_dummy.plugin"

    @pytest.fixture
    def bad_config(self):
        return {"agent": {"delay": {"scan-image": -1}}}


class TestDummyBackendThatTakesItsTime(TestDummyBackend):
    @pytest.fixture
    def config(self):
        return {
            "seed": 1,
            "agent": {"delay": {"destroy-kernel": 0.01, "clean-kernel": [0.001, 0.01]}},
            "kernel-creation-ctx": {"delay": {"spawn": [0, 0.01], "start-container": 0.01}},
            "kernel": {"delay": {"get-logs": [0, 0.001], "commit": 0.01}},
        }


class TestDummyScratch(ScratchManagerContract):
    @pytest.fixture
    def plugin(self):
        return DummyScratch

    @pytest.fixture
    def entry_module(self):
        return "agent_backend_dummy.scratch"
