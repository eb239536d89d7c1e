"""The backends' suite where containers are simulated: those of the dummy backend, or like it."""

from __future__ import annotations

from typing import ClassVar

import pytest

from agent_core.contracts.backend import ContainerBackend
from agent_core.testing import ContainerBackendContract
from agent_core.testing.backend_scripts import READY


class SimulatedSuite(ContainerBackendContract):
    """The suite of one backend, with its containers' commands as the simulated runtime has them."""

    image: ClassVar[str] = "python"
    backend: ClassVar[type[ContainerBackend]]

    @pytest.fixture
    def plugin(self):
        return self.backend

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
