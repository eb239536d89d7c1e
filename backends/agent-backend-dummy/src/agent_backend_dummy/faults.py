"""A bad day, as it is written down: which step of which kernel goes wrong, how, and how often.

A fault is a table:

    step         which step: one of `STEPS`, or a glob of them
    action       fail, hang, slow, lose, duplicate, exit or oom
    kernel, container, image
                 globs; only what matches all of them goes wrong
    when         of a failure: before the step is done (the default), or after
    seconds      of slow and hang: how long (a hang without it is for ever); of exit and oom: how
                 long the container runs before; a number or a pair
    code, signal of exit: how it ends
    message      of fail: what is said
    nth          only the nth time that it matches
    times        only so many times
    probability  how likely, each time that it matches

lose and duplicate are of the step ``event``; exit and oom of the step ``run``.
"""

from __future__ import annotations

import random
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final

from agent_backend_dummy.settings import Span, read_span
from agent_core.contracts.backend import ExitStatus
from agent_core.contracts.errors import InvalidArgument, InvalidConfig, bullet_list

STEPS: Final = (
    *("images", "inspect-image", "pull", "push", "purge"),
    *("create", "start", "run", "stop", "kill", "remove", "list", "inspect", "verify", "handles"),
    *("event", "logs", "exec", "copy-in", "copy-out", "list-files", "commit"),
    *("create-network", "remove-network"),
    *("open-runner", "execute", "send-input", "interrupt", "complete"),
    *("services", "start-service", "shutdown-service"),
)
"""Every step that can go wrong."""

ACTIONS: Final = ("fail", "hang", "slow", "lose", "duplicate", "exit", "oom")
_ONLY: Final = {"lose": "event", "duplicate": "event", "exit": "run", "oom": "run"}
_FILE_BOUND: Final = 1 << 20
_OOM: Final = ExitStatus(137, 9, oom=True)


class SimulatedFault(Exception):
    """Raised where a fault says that a step fails."""


@dataclass(frozen=True, slots=True)
class Subject:
    """What a step is about."""

    kernel: str = ""
    container: str = ""
    image: str = ""


@dataclass(slots=True)
class Fault:
    """One fault, and how often it has matched and struck."""

    step: str
    action: str
    kernel: str = "*"
    container: str = "*"
    image: str = "*"
    when: str = "before"
    seconds: Span | None = None
    code: int = 1
    signal: int | None = None
    message: str = "a simulated fault"
    nth: int | None = None
    times: int | None = None
    probability: float = 1.0
    matched: int = field(default=0, compare=False)
    struck: int = field(default=0, compare=False)

    def concerns(self, step: str, subject: Subject) -> bool:
        """Whether it is about this step of this subject."""
        return fnmatchcase(step, self.step) and (
            fnmatchcase(subject.kernel, self.kernel)
            and fnmatchcase(subject.container, self.container)
            and fnmatchcase(subject.image, self.image)
        )

    def strikes(self, draws: random.Random) -> bool:
        """Count a match and decide whether it strikes this time."""
        self.matched += 1
        struck = (
            (self.nth is None or self.matched == self.nth)
            and (self.times is None or self.struck < self.times)
            and (self.probability >= 1 or draws.random() < self.probability)
        )
        self.struck += struck
        return struck

    def drawn(self, draws: random.Random) -> float | None:
        """Draw its seconds; None when it names none."""
        return None if self.seconds is None else draws.uniform(*self.seconds)

    def ending(self) -> ExitStatus:
        """Say how a container ends by it."""
        if self.action == "oom":
            return _OOM
        code = self.code if self.signal is None else 128 + self.signal
        return ExitStatus(code, self.signal)

    def to_data(self) -> dict[str, Any]:
        """Render as plain data, with how often it has matched and struck."""
        names = [name for name in Fault.__slots__ if getattr(self, name) is not None]
        data = {name: getattr(self, name) for name in names}
        if self.seconds is not None:
            data["seconds"] = [*self.seconds]
        return data


class Faults:
    """All faults of one simulated runtime; they are decided in their order, from one generator."""

    def __init__(self, faults: Sequence[Fault], draws: random.Random) -> None:
        self._draws = draws
        self.faults = [*faults]

    def striking(self, step: str, subject: Subject) -> list[tuple[Fault, float | None]]:
        """Decide which faults strike now, each with its seconds."""
        if not self.faults:
            return []
        concerned = [fault for fault in self.faults if fault.concerns(step, subject)]
        return [(f, f.drawn(self._draws)) for f in concerned if f.strikes(self._draws)]


def read_fault(table: Mapping[str, Any]) -> Fault:
    """Read one fault.

    Raises:
        InvalidArgument: when it has faults itself, all of them named.
    """
    wrong = [*_wrong(table)]
    if wrong:
        raise InvalidArgument(bullet_list(wrong), hint=f"Steps: {', '.join(STEPS)}.")
    values = dict(table)
    if "seconds" in values:
        values["seconds"] = read_span(values["seconds"])
    return Fault(**values)


def read_faults(tables: Sequence[Any], path: str) -> list[Fault]:
    """Read the faults of the configuration, and those of a file.

    Raises:
        InvalidConfig: when the file cannot be read, or any of them is wrong.
    """
    placed = [(f"[[plugin.dummy.fault]] {n}", each) for n, each in enumerate(tables, 1)]
    if path:
        placed += [(f"{path}: [[fault]] {n}", each) for n, each in enumerate(_of_file(path), 1)]
    wrong: list[str] = []
    read: list[Fault] = []
    for place, table in placed:
        try:
            read.append(read_fault(table if isinstance(table, Mapping) else {}))
        except InvalidArgument as exc:
            wrong.append(f"{place}: {exc.message}")
    if wrong:
        raise InvalidConfig(
            bullet_list(wrong), hint="Mend the faults that are listed.", details={"faults": wrong}
        )
    return read


def _of_file(path: str) -> list[Any]:
    try:
        if not Path(path).is_file() or Path(path).stat().st_size > _FILE_BOUND:
            raise InvalidConfig(f"{path} is not a file of at most {_FILE_BOUND} bytes")
        found = tomllib.loads(Path(path).read_text("utf-8"))
    except (OSError, ValueError) as exc:
        raise InvalidConfig(f"the file of faults cannot be read: {path}: {exc}") from exc
    tables = found.get("fault", [])
    if found.keys() - {"fault"} or not isinstance(tables, list):
        raise InvalidConfig(f"{path} has something else than [[fault]] tables")
    return tables


def _wrong(table: Mapping[str, Any]) -> Iterator[str]:
    known = [name for name in Fault.__slots__ if name not in ("matched", "struck")]
    for key in table.keys() - set(known):
        yield f"{key!r} is unknown{_near(str(key), known)}"
    for key in ("step", "action"):
        if key not in table:
            yield f"it has no {key}"
    for key in ("step", "action", "kernel", "container", "image", "message"):
        if key in table and not isinstance(table[key], str):
            yield f"{key} is {table[key]!r}, not a text"
    yield from _wrong_kind(table.get("step", STEPS[0]), table.get("action", ACTIONS[0]))
    yield from _wrong_values(table)


def _wrong_kind(step: Any, action: Any) -> Iterator[str]:
    if isinstance(step, str) and not any(fnmatchcase(each, step) for each in STEPS):
        yield f"step {step!r} matches no step{_near(step, STEPS)}"
    if isinstance(action, str) and action not in ACTIONS:
        yield f"action {action!r} is not one of {', '.join(ACTIONS)}{_near(action, ACTIONS)}"
    elif isinstance(action, str) and step != _ONLY.get(action, step):
        yield f"action {action!r} is of the step {_ONLY[action]!r} only"


def _wrong_values(table: Mapping[str, Any]) -> Iterator[str]:
    if "seconds" in table and isinstance(span := read_span(table["seconds"]), str):
        yield f"seconds: {span}"
    if table.get("when", "before") not in ("before", "after"):
        yield f"when is {table['when']!r}, not before or after"
    bounds = {"code": (0, 255), "signal": (1, 64), "nth": (1, 1 << 31), "times": (1, 1 << 31)}
    for key, (low, high) in bounds.items():
        value = table.get(key, low)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            yield f"{key} is {value!r}, not a whole number from {low} to {high}"
    likely = table.get("probability", 1)
    if not isinstance(likely, int | float) or isinstance(likely, bool) or not 0 <= likely <= 1:
        yield f"probability is {likely!r}, not a number from 0 to 1"


def _near(word: str, known: Sequence[str]) -> str:
    near = get_close_matches(word, known, 1)
    return f"; did you mean {near[0]!r}?" if near else ""
