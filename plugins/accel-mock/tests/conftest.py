"""What the tests of mock share: files of their own, and a plugin whose time they set."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from accel_mock.plugin import MockDevice

from agent_core.contracts.device import Device
from agent_core.contracts.errors import InvalidConfig


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run with a home of its own, so that the developer's files play no part."""
    monkeypatch.delenv("AGENT_MOCK_ACCELERATOR", raising=False)
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)


class Bench:
    """A directory with files, and a plugin of them whose clock the test sets."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.plugin = MockDevice()

    def write(self, name: str, text: str) -> Path:
        """Write a file anew, so that it is seen to have changed whatever the clock's grain."""
        new, path = self.directory / f".{name}", self.directory / name
        new.write_text(text)
        return new.replace(path)

    def open(self, *names: str, **config: Any) -> MockDevice:
        """Open the plugin on some of the files, at the time 0."""
        files = [str(self.directory / name) for name in names or ("cards.toml",)]
        self.plugin = MockDevice()
        self.plugin.open({"files": files, **config})
        self.at(0.0)
        return self.plugin

    def at(self, seconds: float) -> Sequence[Device]:
        """Set the clock, and list the devices."""
        self.plugin._elapsed = lambda: seconds  # type: ignore[method-assign]
        return self.plugin.devices()

    def now(self, device: str) -> Device:
        """Find a device as it is."""
        return next(d for d in self.plugin.devices() if d.id == device)

    def faults(self, *names: str, **config: Any) -> list[str]:
        """List the faults for which opening is refused, without the directory."""
        with pytest.raises(InvalidConfig) as refused:
            self.open(*names, **config)
        found: list[str] = refused.value.details["faults"]
        return [fault.replace(f"{self.directory}/", "") for fault in found]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """A bench without any file."""
    return Bench(tmp_path)


@pytest.fixture
def card() -> Callable[..., str]:
    """What writes one device down."""

    def written(uuid: str, **more: str) -> str:
        keys = {
            "mother_uuid": f'"{uuid}"',
            "model_name": '"CUDA GPU"',
            "subproc_count": "108",
            "memory_size": '"40G"',
            **more,
        }
        return "[[devices]]\n" + "".join(f"{key} = {value}\n" for key, value in keys.items())

    return written
