"""cuda says why there is nothing to do; each case in a process of its own, as a worker has it."""

import os
import subprocess
import sys

import pytest

OPEN = """
import ctypes, sys
from accel_cuda.plugin import CudaDevice
from agent_core.contracts.errors import AgentError
plugin = CudaDevice()
try:
    plugin.open({"root": sys.argv[1]})
    print("opened", [d.id for d in plugin.devices()])
except AgentError as exc:
    print(exc.code, "|", exc.message, "|", exc.hint)
plugin.close()
"""


def said(nvml, **environment):
    """Open the plugin in a fresh process that finds the library by LD_LIBRARY_PATH."""
    return subprocess.run(
        [sys.executable, "-c", OPEN, str(nvml.root)],
        env={**os.environ, "LD_LIBRARY_PATH": str(nvml.library.parent), **environment},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@pytest.mark.requires("gcc")
def test_the_library_is_found_as_the_vendor_installs_it(nvml):
    found = said(nvml)

    assert found.stdout.strip() == "opened ['GPU-a', 'GPU-b']", found.stderr


@pytest.mark.requires("gcc")
@pytest.mark.parametrize(
    ("init", "words"),
    [
        (9, "plugin-disabled | the NVIDIA driver is installed but not loaded | Load it"),
        (18, "plugin-failed | the NVIDIA driver does not work: nvmlInit: RM has detected"),
        (999, "plugin-failed | the NVIDIA driver does not work: nvmlInit: Unknown Error"),
    ],
)
def test_a_driver_that_does_not_start_says_why(nvml, init, words):
    nvml.show(init=init)

    assert words in said(nvml).stdout


@pytest.mark.requires("gcc")
def test_a_driver_without_cards_is_disabled(nvml):
    nvml.show()

    assert "plugin-disabled | the NVIDIA driver finds no GPU" in said(nvml).stdout


@pytest.mark.requires("gcc")
def test_a_driver_whose_cards_are_all_dead_is_a_failure_and_not_disabled(nvml):
    nvml.show(nvml.gpu("GPU-a", 1, error=15))

    assert (
        "plugin-failed | none of the GPUs that the NVIDIA driver finds (1) answers"
        in said(nvml).stdout
    )


@pytest.mark.requires("gcc")
def test_a_library_that_aborts_takes_only_its_process(nvml):
    """What the host's worker is for; the stand-in does it on request."""
    nvml.show(nvml.gpu("GPU-a", 1), abort_in="nvmlDeviceGetCount_v2")

    assert said(nvml).returncode == -6


def test_without_the_library_it_is_disabled(tmp_path):
    script = f"""
import ctypes
try:
    ctypes.CDLL("libnvidia-ml.so.1")
    print("installed")
except OSError:
    {OPEN.replace(chr(10), chr(10) + "    ")}
"""
    found = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    if found.stdout.strip() == "installed":
        pytest.skip("the NVIDIA driver is installed here")

    assert found.stdout.startswith(
        "plugin-disabled | no libnvidia-ml.so.1: the NVIDIA driver is not installed"
    ), found.stderr
