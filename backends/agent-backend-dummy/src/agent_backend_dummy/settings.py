"""The configuration of a simulated node: read whole, and every fault of it named at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from agent_backend_dummy.declaration import AGENT_DELAYS, CREATION_DELAYS, KERNEL_DELAYS
from agent_core.contracts.amount import Amount
from agent_core.contracts.errors import InvalidConfig, bullet_list

Span = tuple[float, float]
"""The least and the most seconds of a delay."""

_CORES: Final = 4
_MEMORY: Final = 32 << 30
_MOST_CORES: Final = 65536
_LONGEST: Final = 86400.0
_DELAY_HINT: Final = "write seconds, such as 0.1, or a pair to draw from, such as [0.1, 0.5]"
_SECTIONS: Final = {
    ("agent", "delay"): AGENT_DELAYS,
    ("kernel-creation-ctx", "delay"): CREATION_DELAYS,
    ("kernel", "delay"): KERNEL_DELAYS,
}


@dataclass(frozen=True, slots=True)
class Settings:
    """A simulated node.

    Attributes:
        seed: What every draw starts from; None draws differently at each start.
        delays: For each step that takes time, how long.
        have: Images that are here.
        pullable: Images that a pull brings.
        missing: Images that no pull finds.
        fake_runner: Whether kernels have a code runner without sockets.
        faults: Tables of faults, not yet read.
        faults_file: A file with more of them.
    """

    seed: int | None = None
    delays: Mapping[str, Span] = field(default_factory=dict)
    have: tuple[str, ...] = ()
    pullable: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    fake_runner: bool = True
    faults: tuple[Mapping[str, Any], ...] = ()
    faults_file: str = ""


class _Reading:
    """Reads one configuration; faults are noted, and a placeholder stands in for each."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.config = config
        self.faults: list[str] = []

    def table(self, *path: str) -> Mapping[str, Any]:
        table: Any = self.config
        for part in path:
            table = table.get(part, {}) if isinstance(table, Mapping) else {}
        return table if isinstance(table, Mapping) else {}

    def fault(self, section: str, key: str, what: str) -> None:
        self.faults.append(f"[{section}] {key}: {what}")

    def delays(self) -> Iterator[tuple[str, Span]]:
        for path, names in _SECTIONS.items():
            table = self.table(*path)
            for name in names:
                if name in table:
                    yield name, self._span(".".join(path), name, table[name])

    def _span(self, section: str, name: str, value: Any) -> Span:
        span = read_span(value)
        if isinstance(span, str):
            self.fault(section, name, span)
            return (0.0, 0.0)
        return span

    def images(self, name: str) -> tuple[str, ...]:
        value = self.table("agent", "image").get(name, ())
        names = [*value] if isinstance(value, list | tuple | Mapping) else None
        if names is None or not all(isinstance(each, str) and each for each in names):
            what = f"{value!r} is neither a list of names nor a table whose keys are names"
            self.fault("agent.image", name, what)
            return ()
        return tuple(names)

    def cores(self) -> tuple[int, ...]:
        indexes = self.table("agent", "intrinsic", "cpu").get("core-indexes")
        count = self.table("agent", "resource", "cpu").get("num-core")
        if indexes is None and count is None:
            return tuple(range(_CORES))
        if count is not None and (not _whole(count) or not 1 <= count <= _MOST_CORES):
            what = f"{count!r} is not a whole number from 1 to {_MOST_CORES}"
            self.fault("agent.resource.cpu", "num-core", what)
            return (0,)
        if indexes is None:
            return tuple(range(count or _CORES))
        cores = _indexes(indexes)
        if cores is None:
            what = (
                f"{indexes!r} is not a list of core numbers such as [0, 1], or a text such as 0-9"
            )
            self.fault("agent.intrinsic.cpu", "core-indexes", what)
            return (0,)
        if count is not None and len(cores) != count:
            what = (
                f"{count} contradicts the {len(cores)} cores of [agent.intrinsic.cpu] core-indexes"
            )
            self.fault("agent.resource.cpu", "num-core", f"{what}; keep one of the two")
        return cores

    def memory(self) -> int:
        sizes = [
            self._size(section, self.table(*section.split("."))["size"])
            for section in ("agent.intrinsic.memory", "agent.resource.memory")
            if "size" in self.table(*section.split("."))
        ]
        if len(set(sizes)) > 1:
            what = "contradicts [agent.intrinsic.memory] size; keep one of the two"
            self.fault("agent.resource.memory", "size", what)
        return sizes[0] if sizes else _MEMORY

    def _size(self, section: str, value: Any) -> int:
        try:
            size = value if _whole(value) else Amount.parse_size(str(value)).value
        except ValueError as exc:
            self.fault(section, "size", str(exc))
            return _MEMORY
        if isinstance(value, bool | float) or size < 1:
            self.fault(section, "size", f"{value!r} is not a size such as 32G, or bytes")
        return int(size)

    def refuse(self) -> None:
        if self.faults:
            raise InvalidConfig(
                bullet_list(self.faults),
                hint="Mend what is listed in the configuration, then restart the agent.",
                details={"faults": self.faults},
            )


def read_span(value: Any) -> Span | str:
    """Read a delay: seconds or a pair of them; a text says what is wrong with it."""
    pair = value if isinstance(value, list | tuple) else (value, value)
    if len(pair) != 2 or not all(_number(each) for each in pair):
        return f"{value!r} is no delay; {_DELAY_HINT}"
    low, high = (float(each) for each in pair)
    if low < 0 or high < 0:
        return f"{value!r} is negative; {_DELAY_HINT}"
    if low > high:
        return f"{value!r} is reversed: write [{high:g}, {low:g}]"
    if not high <= _LONGEST:
        return f"{value!r} is longer than a day; {_DELAY_HINT}"
    return low, high


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _indexes(value: Any) -> tuple[int, ...] | None:
    if isinstance(value, str):
        value = _ranges(value)
    if not isinstance(value, list | tuple) or not value:
        return None
    if not all(_whole(each) and 0 <= each < _MOST_CORES for each in value):
        return None
    return tuple(sorted(set(value)))


def _ranges(text: str) -> list[int] | None:
    numbers: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        last = last if dash else first
        if not (first.isdecimal() and last.isdecimal() and int(last) < _MOST_CORES):
            return None
        numbers.extend(range(int(first), int(last) + 1))
    return numbers


def read_settings(config: Mapping[str, Any]) -> Settings:
    """Read the configuration.

    Raises:
        InvalidConfig: when it has faults, all of them named with their sections and keys.
    """
    reading = _Reading(config)
    settings = Settings(
        seed=config.get("seed"),
        delays=dict(reading.delays()),
        have=reading.images("already-have"),
        pullable=reading.images("need-to-pull"),
        missing=reading.images("missing"),
        fake_runner=reading.table("kernel").get("use-fake-code-runner", True),
        faults=tuple(config.get("fault", ())),
        faults_file=config.get("faults", ""),
    )
    reading.cores()
    reading.memory()
    reading.refuse()
    return settings


def read_node(config: Mapping[str, Any]) -> tuple[tuple[int, ...], int]:
    """Read the cores and the bytes of memory of the node.

    Raises:
        InvalidConfig: as `read_settings`.
    """
    reading = _Reading(config)
    cores, memory = reading.cores(), reading.memory()
    reading.refuse()
    return cores, memory
