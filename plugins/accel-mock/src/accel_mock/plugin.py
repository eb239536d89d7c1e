"""The device plugin ``mock``: accelerators that files declare."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from accel_mock import readings
from accel_mock.bay import Bay, Placed
from accel_mock.file import find_files
from accel_mock.injection import edits_for
from accel_mock.inventory import devices_of, slots_of
from accel_mock.settings import SCHEMA, Settings, read_settings
from accel_mock.watch import Watch
from agent_core.contracts.device import ComputeDevice, Device, Grant, Measurement, Subject
from agent_core.contracts.edits import ContainerEdits
from agent_core.contracts.info import PluginInfo, SlotInfo, SlotType
from agent_core.hookspecs import hookimpl

_SUBTYPES = ("device", "shares", "device:*-mig")


class MockDevice(ComputeDevice):
    """Mock accelerators of one or several kinds, as their files declare them.

    Which slots and series there are depends on the files: the class declares slots by globs and
    the series of the usual kinds, and an opened instance what the files really have, with their
    formats.
    """

    info = PluginInfo(
        kind="device",
        name="mock",
        summary="Accelerators that a file declares, for developing without the hardware",
        config_schema=SCHEMA,
        slots=(
            SlotInfo("*.device", SlotType.COUNT, "Whole mock accelerators"),
            SlotInfo("*.shares", SlotType.COUNT, "Shares of mock accelerators"),
            SlotInfo("*.device:*-mig", SlotType.UNIQUE, "Partitions of mock accelerators"),
        ),
        exclusive_slots=tuple(f"*.{subtype}" for subtype in _SUBTYPES),
        instant=("describe",),
        metrics=tuple(series for kind in ("cuda", "rocm") for series in readings.declared(kind)),
    )

    def __init__(self) -> None:
        self._settings = Settings()
        self._bay: Bay | None = None
        self._opened = 0.0
        self._there: Mapping[str, Placed] = {}
        self._placed: tuple[Placed, ...] = ()
        self._devices: tuple[Device, ...] = ()
        self._cycle = 0

    def open(self, config: Mapping[str, Any]) -> None:
        """Find and read the files.

        Raises:
            PluginDisabled: when there is no file.
            InvalidConfig: when the section or a file has faults.
        """
        settings = read_settings(config)
        self._bay = Bay(Watch(find_files(settings.files), settings), settings.seed)
        self._settings, self._cycle = settings, 0
        self._opened = time.monotonic()
        self._placed = ()
        self.devices()

    def close(self) -> None:
        """Forget the files and their devices."""
        self._bay = None
        self._there, self._placed, self._devices = {}, (), ()

    def devices(self) -> Sequence[Device]:
        """List the devices as they are now: files that have changed are read again first."""
        if self._bay is None:
            return ()
        placed = self._bay.look(self._elapsed())
        if placed is not self._placed:
            self._placed = placed
            self._there = {each.card.id: each for each in placed}
            self._devices = tuple(devices_of(placed))
            # The class's info is what is known without a file; this instance knows more.
            vars(self)["info"] = self._refined(self._bay)
        return self._devices

    def _elapsed(self) -> float:
        """Count the seconds since the opening, by which scripts go."""
        return time.monotonic() - self._opened

    def _refined(self, bay: Bay) -> PluginInfo:
        kinds = {each.kind.slot: each.kind for each in self._placed}
        kinds.update((kind.slot, kind) for kind in bay.kinds)
        declared = {slot.name: slot for slot in slots_of(tuple(kinds.values()))}
        return replace(
            type(self).info,
            slots=tuple(declared.values()),
            exclusive_slots=tuple(declared),
            metrics=tuple(s for kind in kinds.values() for s in readings.declared(kind.prefix)),
        )

    def describe(self, grants: Sequence[Grant]) -> ContainerEdits:
        """Tell the container which devices it has, as a real accelerator's plugin would.

        Raises:
            NotFound: when a device was never there.
        """
        return edits_for(grants, self._there)

    def measure(self, subjects: Sequence[Subject]) -> Sequence[Measurement]:
        """Make up readings of each device and of each kernel that holds some of them."""
        self._cycle += 1
        made = readings.Readings(self._there, self._settings.seed, self._cycle)
        return made.of_all(subjects)


@hookimpl
def register_device() -> type[ComputeDevice]:
    """Register the mock plugin."""
    return MockDevice
