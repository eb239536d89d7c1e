"""What a runner may make the agent read without paying for it by credit."""

from __future__ import annotations

from typing import Final

RATE: Final = 1 << 20
"""Bytes a second that a runner may send beyond what its output accounts for."""

BURST: Final = 4 << 20
"""Bytes that it may send at once."""

_OVERHEAD: Final = 100
_ESCAPED: Final = 12
"""The most bytes of JSON for a byte of text."""


class Allowance:
    """Slows down whoever sends what is no output: the credit bounds output and nothing else.

    An honest runner says little beside output and never meets this. One that sends again what was
    acknowledged, or what means nothing, waits, and the agent has its time for others.

    Args:
        now: Seconds of a clock that never goes back.
    """

    def __init__(self, now: float) -> None:
        self._left = float(BURST)
        self._at = now

    def pause(self, size: int, cost: int, now: float) -> float:
        """Charge one frame, and say for how many seconds nothing more may be read.

        Args:
            size: Bytes of the frame.
            cost: Bytes of credit that it used.
            now: Seconds, as above.
        """
        self._left = min(BURST, self._left + (now - self._at) * RATE)
        self._at = now
        self._left -= max(0, size + _OVERHEAD - _ESCAPED * cost)
        return max(0.0, -self._left / RATE)
