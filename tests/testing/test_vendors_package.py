"""A vendor's package, neither installed nor known here, is proven by subclassing the kit."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

PLUGIN = '''
"""ACME cards."""

from agent_core.contracts.amount import Amount
from agent_core.contracts.device import ComputeDevice, Counter, Device, Offer
from agent_core.contracts.edits import ContainerEdits
from agent_core.contracts.info import PluginInfo, SlotInfo, SlotType
from agent_core.hookspecs import hookimpl


class AcmeDevice(ComputeDevice):
    info = PluginInfo(
        "device", "acme", "ACME cards", slots=(SlotInfo("acme.device", SlotType.COUNT),)
    )

    def devices(self):
        return [Device("A", "", (Counter("A", 1),), (Offer("acme.device", Amount(1), {"A": 1}),))]

    def describe(self, grants):
        return ContainerEdits(env={"ACME": "A"} if grants else {})


@hookimpl
def register_device():
    return AcmeDevice
'''

SUITE = """
import pytest
from accel_acme.plugin import AcmeDevice

from agent_core.testing import ComputeDeviceContract


class TestAcme(ComputeDeviceContract):
    @pytest.fixture
    def plugin(self):
        return AcmeDevice
"""


def _run(folder: Path) -> str:
    """Run pytest as a vendor does, in the package's own directory."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
    command = [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider"]
    done = subprocess.run(
        command, cwd=folder, env=env, capture_output=True, text=True, timeout=50, check=False
    )
    return done.stdout


def _package(folder: Path, plugin: str) -> None:
    (folder / "src/accel_acme").mkdir(parents=True)
    (folder / "src/accel_acme/plugin.py").write_text(plugin)
    (folder / "test_acme.py").write_text(SUITE)
    (folder / "pytest.ini").write_text("[pytest]\npythonpath = src\n")


def test_a_package_that_is_not_installed_passes(tmp_path: Path) -> None:
    _package(tmp_path, PLUGIN)

    said = _run(tmp_path)

    assert "passed" in said, said
    assert "failed" not in said, said
    assert "error" not in said, said


def test_a_failure_shows_what_was_compared(tmp_path: Path) -> None:
    _package(tmp_path, PLUGIN.replace('"acme", "ACME cards", slots', '"acme", "", slots'))

    said = _run(tmp_path)

    assert "FAILED test_acme.py::TestAcme::test_its_info_is_sound" in said, said
    assert "a summary tells people what this plugin is" in said, said
