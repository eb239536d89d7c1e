"""The vendor's binding behind one door: imported when connected, its errors translated here."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any, Final

from agent_core.contracts.device import Health
from agent_core.contracts.errors import PluginError

NOT_FOUND: Final = 6
DRIVER_NOT_LOADED: Final = 9
LIBRARY_NOT_FOUND: Final = 12
VERSION_MISMATCH: Final = 18

_LOST: Final = frozenset({15, 28})  # the GPU is lost, or not found on the bus
_UNHEALTHY: Final = frozenset({8, 11, 14, 16})  # power, interrupts, inforom, reset required
ABSENT: Final = frozenset({3, 4, NOT_FOUND, 13, 21})
"""Not supported, no permission, not found, no such function, no data: there is nothing to read."""

_PATIENCE = 1.0


class NvmlFailed(PluginError):
    """Raised when a call of NVML fails; `value` is NVML's own code."""

    def __init__(self, call: str, value: int, text: str) -> None:
        super().__init__(f"{call}: {text} (NVML error {value})", plugin="cuda", stage=call)
        self.value = value

    @property
    def health(self) -> Health:
        """What this failure says of the card that was asked."""
        if self.value in _LOST:
            return Health.LOST
        return Health.UNHEALTHY if self.value in _UNHEALTHY else Health.UNKNOWN


class Driver:
    """NVML, connected.

    driver = Driver()
    driver.connect()
    driver.call("nvmlDeviceGetCount")
    """

    def __init__(self) -> None:
        self._binding: Any = None
        self._connected = False
        # Shutting NVML down under a call of another thread is not something to try.
        self._in_use = threading.Lock()

    def connect(self) -> None:
        """Load the library and initialise it.

        Raises:
            NvmlFailed: when there is no library, no driver, or the two do not fit.
        """
        if not self._connected:
            self._binding = importlib.import_module("pynvml")
            self.call("nvmlInit")
            self._connected = True

    def reconnect(self) -> bool:
        """Initialise again, since NVML sees new and returned cards only then.

        While another thread reads, this is left for the next time and gives False.

        Raises:
            NvmlFailed: when the driver has gone meanwhile.
        """
        with self.using() as free:
            if free:
                self._disconnect()
                self.connect()
            return free

    def close(self) -> None:
        """Give NVML back; closing twice does nothing."""
        with self.using():
            self._disconnect()

    def _disconnect(self) -> None:
        connected, self._connected = self._connected, False
        if connected:
            self.maybe("nvmlShutdown", absent=range(1, 1000))

    @contextmanager
    def using(self) -> Iterator[bool]:
        """Keep NVML connected meanwhile; gives False when another thread has kept it too long."""
        got = self._in_use.acquire(timeout=_PATIENCE)
        try:
            yield got
        finally:
            if got:
                self._in_use.release()

    def call(self, name: str, *arguments: Any) -> Any:
        """Call a function of the binding.

        Raises:
            NvmlFailed: when NVML reports an error.
        """
        try:
            return getattr(self._binding, name)(*arguments)
        except self._binding.NVMLError as exc:
            raise NvmlFailed(name, exc.value, str(exc)) from exc

    def maybe(self, name: str, *arguments: Any, absent: Collection[int] = ABSENT) -> Any:
        """Call a function, with None for what this card or driver does not have.

        Raises:
            NvmlFailed: when NVML reports any other error.
        """
        try:
            return self.call(name, *arguments)
        except NvmlFailed as exc:
            if exc.value in absent:
                return None
            raise
