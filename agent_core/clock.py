"""Time as the agent uses it: wall clock for people, boot clock for graces, boot id for truth."""

from __future__ import annotations

import time
from pathlib import Path

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def wall() -> float:
    """Return seconds since the epoch, for records that people read."""
    return time.time()


def monotonic() -> float:
    """Return seconds of the monotonic clock, for deadlines and durations."""
    return time.monotonic()


def boottime() -> float:
    """Return seconds since boot including suspend, for graces that must not restart on resume."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def boot_id() -> str:
    """Return the id that the Linux kernel makes anew at each boot."""
    return _BOOT_ID.read_text().strip()
