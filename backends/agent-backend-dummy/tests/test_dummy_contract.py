"""The dummy backend and its scratch manager pass the conformance suites."""

from __future__ import annotations

import pytest
from agent_backend_dummy.backend import DummyBackend
from agent_backend_dummy.scratch import DummyScratch

from agent_core.testing import ContainerBackendContract, ScratchManagerContract
from agent_core.testing.backend_scripts import READY


class TestDummyBackend(ContainerBackendContract):
    image = "python"

    @pytest.fixture
    def plugin(self):
        return DummyBackend

    @pytest.fixture
    def entry_module(self):
        return "agent_backend_dummy.plugin"

    @pytest.fixture
    def bad_config(self):
        return {"agent": {"delay": {"scan-image": -1}}}

    def argv_exit(self, code):
        return ("simulate", "exit", str(code))

    def argv_signal(self, signal):
        return ("simulate", "signal", str(signal))

    def argv_print(self, text):
        return ("simulate", "print", text)

    def argv_flood(self, lines):
        return ("simulate", "flood", str(lines))

    def argv_sleep(self):
        return ("simulate", "stay", READY)

    def argv_deaf(self):
        return ("simulate", "deaf", READY)

    def argv_daemons(self):
        return self.argv_sleep()

    def argv_missing(self):
        return ("simulate", "missing")

    def argv_greet(self):
        return ("simulate", "env", "GREETING")

    def argv_two_words(self):
        return ("simulate", "say", "one", "0.3", "two")


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
