"""The device plugin ``cuda``: NVIDIA GPUs, whole and in MIG instances, by NVML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from accel_cuda import readings
from accel_cuda.driver import (
    DRIVER_NOT_LOADED,
    LIBRARY_NOT_FOUND,
    VERSION_MISMATCH,
    Driver,
    NvmlFailed,
)
from accel_cuda.host import HostFiles
from accel_cuda.injection import edits_for
from accel_cuda.inventory import PARTITIONS, WHOLE, devices_of
from accel_cuda.model import Rack
from accel_cuda.settings import SCHEMA, Settings, read_settings
from accel_cuda.survey import survey, unknown
from agent_core.contracts.device import (
    ComputeDevice,
    Device,
    Grant,
    Health,
    Measurement,
    Subject,
)
from agent_core.contracts.edits import ContainerEdits
from agent_core.contracts.errors import PluginDisabled, PluginError
from agent_core.contracts.info import PluginInfo, Reconfigured, SlotInfo, SlotType
from agent_core.hookspecs import hookimpl

_NAME = "cuda"


class CudaDevice(ComputeDevice):
    """The NVIDIA GPUs of this node."""

    info = PluginInfo(
        kind="device",
        name=_NAME,
        summary="NVIDIA GPUs, whole and in MIG instances",
        config_schema=SCHEMA,
        slots=(
            SlotInfo(WHOLE, SlotType.COUNT, "Whole CUDA GPUs", "GPU", "GPU", "gpu1"),
            SlotInfo(PARTITIONS, SlotType.UNIQUE, "MIG instances of GPUs", "MIG", "MIG", "gpu1"),
        ),
        exclusive_slots=(WHOLE, PARTITIONS),
        metrics=readings.SERIES,
        # Without persistence mode the driver wakes every card up first, a second or two for each.
        deadlines={"open": 60.0, "devices": 30.0},
    )

    def __init__(self) -> None:
        self._settings = Settings()
        self._host = HostFiles()
        self._driver = Driver()
        self._rack = Rack()
        self._bound: frozenset[str] = frozenset()

    def open(self, config: Mapping[str, Any]) -> None:
        """Connect to the driver and look at the cards for the first time.

        Raises:
            PluginDisabled: when there is no driver or no GPU.
            InvalidConfig: when the section has faults.
            PluginError: when the driver is there and does not work.
        """
        self._settings = read_settings(config)
        self._host = HostFiles(self._settings.root)
        try:
            self._driver.connect()
            count = self._driver.call("nvmlDeviceGetCount")
            self._bound = self._host.bound()
            self._rack = survey(self._driver, self._rack, self._host)
        except NvmlFailed as exc:
            self._driver.close()
            raise _refusal(exc) from exc
        if not self._rack.cards:
            self._driver.close()
            raise _no_cards(count)

    def reconfigure(self, config: Mapping[str, Any]) -> Reconfigured:
        """Take everything but another root at once; it counts from the next container on."""
        settings = read_settings(config)
        if settings.root != self._settings.root:
            return Reconfigured.NEEDS_RESTART
        self._settings = settings
        return Reconfigured.APPLIED

    def close(self) -> None:
        """Give NVML back and forget the cards."""
        self._driver.close()
        self._rack = Rack()

    def devices(self) -> Sequence[Device]:
        """Look at all cards and their MIG instances again.

        A card that was there and is not seen any more is `LOST` until the plugin is opened anew;
        when the driver itself does not answer, all cards are `UNKNOWN`.
        """
        bound = self._host.bound()
        try:
            fresh = not self._is_stale(bound) or self._driver.reconnect()
            self._rack = survey(self._driver, self._rack, self._host)
            self._bound = bound if fresh else self._bound
        except NvmlFailed as exc:
            self._rack = unknown(self._rack, exc)
        return list(devices_of(self._rack))

    def _is_stale(self, bound: frozenset[str]) -> bool:
        """Say whether NVML may see more when it is initialised again."""
        ill = any(card.health is not Health.HEALTHY for card in self._rack.cards)
        return ill or bound != self._bound

    def describe(self, grants: Sequence[Grant]) -> ContainerEdits:
        """Say what a container needs, by what was last seen of the cards.

        Raises:
            NotFound: when a device is not on this node any more.
        """
        return edits_for(grants, self._rack, self._settings)

    def measure(self, subjects: Sequence[Subject]) -> Sequence[Measurement]:
        """Read every card, and the memory of each kernel's own processes."""
        with self._driver.using() as ready:
            return readings.measure(self._driver, self._rack, subjects) if ready else ()


def _refusal(exc: NvmlFailed) -> PluginError:
    if exc.value == LIBRARY_NOT_FOUND:
        return PluginDisabled(
            "no libnvidia-ml.so.1: the NVIDIA driver is not installed", plugin=_NAME, stage="open"
        )
    if exc.value == DRIVER_NOT_LOADED:
        return PluginDisabled(
            "the NVIDIA driver is installed but not loaded",
            plugin=_NAME,
            stage="open",
            hint="Load it with `modprobe nvidia`; `dmesg` says why it did not load by itself.",
        )
    hint = None
    if exc.value == VERSION_MISMATCH:
        hint = "The driver was upgraded under the running kernel module: reboot, or reload it."
    return PluginError(
        f"the NVIDIA driver does not work: {exc.message}", plugin=_NAME, stage="open", hint=hint
    )


def _no_cards(count: int) -> PluginError:
    if not count:
        return PluginDisabled("the NVIDIA driver finds no GPU", plugin=_NAME, stage="open")
    return PluginError(
        f"none of the GPUs that the NVIDIA driver finds ({count}) answers",
        plugin=_NAME,
        stage="open",
        hint="`nvidia-smi` and `dmesg` say what is wrong with them.",
    )


@hookimpl
def register_device() -> type[ComputeDevice]:
    """Register the cuda plugin."""
    return CudaDevice
