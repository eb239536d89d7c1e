"""Exact amounts of a slot: an integer and a decimal scale inside, a decimal string outside."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import total_ordering

_DECIMAL = re.compile(r"([0-9]{1,30})(?:\.([0-9]{1,18}))?")
_BINARY_UNITS = {unit: 1 << (10 * power) for power, unit in enumerate("bkmgtpe")}
_SIZE = re.compile(r"([0-9]{1,30})(?:\.([0-9]{1,18}))?\s*(?:([kmgtpe])i?)?b?", re.IGNORECASE)


@total_ordering
@dataclass(frozen=True, slots=True)
class Amount:
    """A non-negative decimal number without rounding: ``value / 10 ** scale``.

    The scale is kept minimal, so that equal amounts are equal objects: ``Amount.parse("2.0")`` is
    ``Amount(2, 0)``.

    Raises:
        ValueError: when the value or the scale is negative.
    """

    value: int
    scale: int = 0

    def __post_init__(self) -> None:
        """Reject negative numbers and strip trailing zeros of the fraction."""
        if self.value < 0 or self.scale < 0:
            raise ValueError(f"an amount is never negative: {self.value}e-{self.scale}")
        value, scale = self.value, self.scale
        while scale and value % 10 == 0:
            value, scale = value // 10, scale - 1
        object.__setattr__(self, "value", value)
        object.__setattr__(self, "scale", scale)

    @classmethod
    def parse(cls, text: str) -> Amount:
        """Read a decimal string such as ``"2"``, ``"0.25"`` or ``"2.0"``.

        Raises:
            ValueError: when the text is not a plain non-negative decimal.
        """
        match = _DECIMAL.fullmatch(text.strip())
        if match is None:
            raise ValueError(f"{text!r} is not a non-negative decimal number such as 2 or 0.25")
        return cls._of_digits(match.group(1), match.group(2) or "")

    @classmethod
    def parse_size(cls, text: str) -> Amount:
        """Read a size in bytes, with binary suffixes: ``"1g"``, ``"1Gi"`` and ``"1GiB"`` are 2**30.

        Raises:
            ValueError: when the text is not a size, or not a whole number of bytes.
        """
        match = _SIZE.fullmatch(text.strip())
        if match is None:
            raise ValueError(f"{text!r} is not a size such as 512m, 4g or 1073741824")
        number = cls._of_digits(match.group(1), match.group(2) or "")
        size = number.times(_BINARY_UNITS[(match.group(3) or "b").lower()])
        if size.scale:
            raise ValueError(f"{text!r} is not a whole number of bytes")
        return size

    @classmethod
    def _of_digits(cls, whole: str, fraction: str) -> Amount:
        return cls(int(whole + fraction), len(fraction))

    def times(self, factor: int) -> Amount:
        """Multiply by a whole number."""
        return Amount(self.value * factor, self.scale)

    def quanta(self, quantum: Amount) -> int | None:
        """Count how many quanta make this amount, or None when it is not a multiple.

        Raises:
            ValueError: when the quantum is zero.
        """
        if quantum.value == 0:
            raise ValueError("a quantum is never zero")
        scale = max(self.scale, quantum.scale)
        count, rest = divmod(self._at(scale), quantum._at(scale))
        return count if rest == 0 else None

    def _at(self, scale: int) -> int:
        return int(self.value * 10 ** (scale - self.scale))

    def __add__(self, other: Amount) -> Amount:
        scale = max(self.scale, other.scale)
        return Amount(self._at(scale) + other._at(scale), scale)

    def __sub__(self, other: Amount) -> Amount:
        scale = max(self.scale, other.scale)
        return Amount(self._at(scale) - other._at(scale), scale)

    def __lt__(self, other: Amount) -> bool:
        scale = max(self.scale, other.scale)
        return self._at(scale) < other._at(scale)

    def __bool__(self) -> bool:
        return self.value != 0

    def __str__(self) -> str:
        if not self.scale:
            return str(self.value)
        digits = str(self.value).rjust(self.scale + 1, "0")
        return f"{digits[: -self.scale]}.{digits[-self.scale :]}"
