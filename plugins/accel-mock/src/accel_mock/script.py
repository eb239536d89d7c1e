"""Scripts: what happens to devices at which time after the plugin was opened. Reading, and playing.

A script is played by asking what is so after so many seconds: each step sets something, so of a
step that happens again and again only the last time counts. Nothing waits, and two runs with one
seed are alike.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any, Final

from accel_mock.cards import LINE, Cards
from accel_mock.model import Links, Step, Verb
from accel_mock.table import Table, meant
from agent_core.contracts.device import Health

_SUBJECTS: Final = ("device", "remove", "add", "link", "unlink")
_KEYS: Final = ("at", "every", "health", "evidence", "kind", *_SUBJECTS)
KIND: Final = (r"[A-Za-z0-9][A-Za-z0-9 ._/-]{0,63}", "a short name such as nvlink")
DEFAULT_KIND: Final = "nvlink"


@dataclass(frozen=True, slots=True)
class Scene:
    """What a script has made of devices at one moment.

    Attributes:
        absent: The devices that are not plugged in.
        health: Condition and evidence, by device.
        links: The kind of each link that it made, or "" for one that it cut.
    """

    absent: frozenset[str] = frozenset()
    health: Mapping[str, tuple[Health, str]] = field(default_factory=dict)
    links: Links = field(default_factory=dict)


def play(steps: Sequence[Step], late: Collection[str], seconds: float, seed: int) -> Scene:
    """Say what is so after so many seconds; the later of two steps wins.

    Args:
        steps: The script, or several one after the other.
        late: The devices that are plugged in by it only.
        seconds: Since the plugin was opened.
        seed: Of the times that are drawn.
    """
    absent, health, links = set(late), dict[str, tuple[Health, str]](), dict[frozenset[str], str]()
    for step in _due(steps, seconds, seed):
        if step.verb is Verb.HEALTH:
            health[step.devices[0]] = (Health(step.value), step.evidence)
        elif step.verb is Verb.REMOVE:
            absent.update(step.devices)
        elif step.verb is Verb.ADD:
            absent.difference_update(step.devices)
        else:
            links.update(all_pairs(step.devices, step.value))
    return Scene(frozenset(absent), health, links)


def _due(steps: Sequence[Step], seconds: float, seed: int) -> Iterator[Step]:
    moments = [(_last(step, number, seconds, seed), number) for number, step in enumerate(steps)]
    for moment, number in sorted(moments):
        if moment <= seconds:
            yield steps[number]


def _last(step: Step, number: int, seconds: float, seed: int) -> float:
    """Find when a step happened last, or when it will happen first."""
    draw = random.Random(f"{seed}/script/{number}")  # noqa: S311  a made-up day, no secret
    first = draw.uniform(step.earliest, step.latest)
    if not step.every or seconds < first:
        return first
    return first + step.every * ((seconds - first) // step.every)


class Script:
    """Reads the entries of ``script`` in one file.

    Args:
        cards: Where a device that is plugged in later is read; None where it cannot be declared.
    """

    def __init__(self, cards: Cards | None) -> None:
        self._cards = cards
        self.steps: list[tuple[Table, Step]] = []
        self.late: set[str] = set()

    def add(self, table: Table) -> None:
        """Read one entry."""
        table.only(_KEYS)
        said = [key for key in _SUBJECTS if key in table]
        if len(said) != 1:
            which = f"has {' and '.join(said)}" if said else "does nothing"
            table.fault("", f"{which}; a step has one of {', '.join(_SUBJECTS)}")
            return
        earliest, latest = _moment(table, "at")
        verb = Verb(said[0]) if said[0] != "device" else Verb.HEALTH
        devices, value = self._subjects(table, verb), ""
        if verb is Verb.HEALTH:
            value = table.choice("health", tuple(Health))
        elif verb is Verb.LINK:
            value = table.text("kind", *KIND, default=DEFAULT_KIND)
        evidence = table.text("evidence", *LINE, default="")
        every = _moment(table, "every")[0]
        self.steps.append((table, Step(earliest, latest, every, verb, devices, value, evidence)))

    def _subjects(self, table: Table, verb: Verb) -> tuple[str, ...]:
        if verb in (Verb.LINK, Verb.UNLINK):
            return connected(table, verb)
        if verb is Verb.ADD and isinstance(table.content["add"], dict):
            return self._new(table.table("add"))
        key = "device" if verb is Verb.HEALTH else str(verb)
        return (table.text(key, r"[^\x00-\x1f]{1,200}", "the id of a device"),)

    def _new(self, table: Table) -> tuple[str, ...]:
        if self._cards is None:
            table.fault("", "declares a device; that has to be in the file of its kind")
            return ()
        before = set(self._cards.read)
        self._cards.add(table)
        added = tuple(card for card in self._cards.read if card not in before)
        self.late.update(added)
        return added

    def check(self, known: Collection[str]) -> None:
        """Note every step about a device that there is not."""
        for table, step in self.steps:
            for device in step.devices:
                if device and device not in known:
                    hint = meant(device, known)
                    table.fault("", f"is about {device!r}, which is not there{hint}")


def all_pairs(devices: Sequence[str], kind: str) -> Links:
    """Connect each of several devices with each other one."""
    return {frozenset(each): kind for each in combinations(devices, 2)}


def connected(table: Table, key: str) -> tuple[str, ...]:
    """Read the two or more devices that a link connects."""
    found = table.content.get(key)
    devices = [each for each in found if isinstance(each, str)] if isinstance(found, list) else []
    if len(devices) > 1 and len(set(devices)) == len(devices) and devices == found:
        return tuple(devices)
    table.fault(key, f"is {found!r}, not a list of different devices")
    return ()


def _moment(table: Table, key: str) -> tuple[float, float]:
    """Read seconds: a number, or two between which one is drawn."""
    given: Any = table.content.get(key, 0.0)
    bounds = given if isinstance(given, list) and key == "at" else [given, given]
    if len(bounds) == 2 and all(_is_time(b) for b in bounds) and bounds[0] <= bounds[1]:
        return float(bounds[0]), float(bounds[1])
    words = "seconds, or two of them in order" if key == "at" else "seconds"
    table.fault(key, f"is {given!r}, not {words}")
    return 0.0, 0.0


def _is_time(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e9
