"""A stand-in for NVIDIA's library, built here, so that the real binding runs without a card."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent / "standin_nvml.c"
NEEDS = {
    "gcc": lambda: None if shutil.which("gcc") else "there is no gcc to build the stand-in with",
    "nvidia": lambda: None if Path("/dev/nvidiactl").exists() else "there is no NVIDIA GPU here",
}
GIB = 1 << 30


def pytest_runtest_setup(item):
    """Skip a test with its reason where something is missing, or fail it where that must be."""
    for name in (name for mark in item.iter_markers("requires") for name in mark.args):
        missing = NEEDS[name]() if name in NEEDS else None
        if missing:
            required = os.environ.get("AGENT_TESTS_REQUIRE", "").replace(",", " ").split()
            (pytest.fail if name in required else pytest.skip)(missing)


class Standin:
    """What the stand-in says; the library reads it anew at every call."""

    def __init__(self, directory: Path, library: Path) -> None:
        self.library = library
        self.state = directory / "cards"
        self.root = directory / "root"
        self.root.mkdir()

    def show(self, *lines: str, **node: object) -> None:
        """Replace all that there is."""
        said = self._line("node", {"driver": "550.54.15", "cuda": 12040, **node})
        fresh = self.state.with_suffix(".new")
        fresh.write_text("\n".join((said, *lines)) + "\n")
        fresh.replace(self.state)

    def gpu(self, uuid: str, bus: int, **fields: object) -> str:
        """Describe a card of 40 GiB."""
        usual = {
            "name": "NVIDIA_A100-SXM4-40GB", "minor": bus, "total": 40 * GIB, "used": GIB,
            "util": 25, "power": 75500, "limit": 400000, "temp": 41, "mig": 0, "retired": 0,
            "pending": 0, "ecc": 0,
        }  # fmt: skip
        return self._line("gpu", {"uuid": uuid, "bus": bus, **usual, **fields})

    def mig(self, of: str, uuid: str, gi: int, size: int, **fields: object) -> str:
        """Describe a MIG instance of so many GiB, of which the driver keeps some for itself."""
        usual = {
            "name": f"NVIDIA_A100-SXM4-40GB_MIG_{size // 5}g.{size}gb", "ci": 0,
            "mb": size * 1024 - 256, "used": 0, "slices": size // 5, "of_slices": size // 5,
        }  # fmt: skip
        return self._line("mig", {"of": of, "uuid": uuid, "gi": gi, **usual, **fields})

    def process(self, on: str, pid: int, used: int | None) -> str:
        """Describe a process on a card or a MIG instance."""
        return self._line("proc", {"on": on, "pid": pid, **({"used": used} if used else {})})

    def file(self, path: str, text: str = "") -> None:
        """Write a file of the host under the root."""
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)

    def _line(self, kind: str, fields: dict[str, object]) -> str:
        return " ".join((kind, *(f"{key}={value}" for key, value in fields.items())))


@pytest.fixture(scope="session")
def library(tmp_path_factory):
    """The stand-in library."""
    built = tmp_path_factory.mktemp("nvml") / "libnvidia-ml.so.1"
    flags = ["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-Wl,-soname,libnvidia-ml.so.1"]
    subprocess.run(["gcc", *flags, "-o", str(built), str(SOURCE), "-lpthread"], check=True)
    return built


@pytest.fixture
def nvml(library, tmp_path, monkeypatch):
    """The stand-in, loaded into this process, with two healthy cards on two NUMA nodes."""
    # The binding asks for the name alone, and the linker gives it what is loaded by that name.
    ctypes.CDLL(str(library))
    standin = Standin(tmp_path, library)
    monkeypatch.setenv("NVML_STANDIN", str(standin.state))
    standin.show(standin.gpu("GPU-a", 1), standin.gpu("GPU-b", 2))
    standin.file("sys/bus/pci/devices/0000:01:00.0/numa_node", "0\n")
    standin.file("sys/bus/pci/devices/0000:02:00.0/numa_node", "-1\n")
    return standin
