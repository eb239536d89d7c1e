"""One table of a file: each value is read by its type, and what is wrong is noted, not raised."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from accel_mock.document import Document
from accel_mock.model import Place
from agent_core.contracts.amount import Amount


class Table:
    """A table at a place of a document; a value that is missing or wrong becomes a default.

    table = Table(document, (), document.content)
    slot = table.text("slot_name", r"[a-z]+", "a lower-case word")
    """

    def __init__(self, document: Document, place: Place, content: Mapping[str, Any]) -> None:
        self.document = document
        self.place = place
        self.content = content

    def __contains__(self, key: str) -> bool:
        return key in self.content

    @property
    def name(self) -> str:
        """What a person calls it: ``devices[0]``; empty for the whole file."""
        parts = [f"[{p}]" if isinstance(p, int) else f".{p}" for p in self.place]
        return "".join(parts).removeprefix(".")

    def fault(self, key: str, what: str) -> None:
        """Note what is wrong with a value, or with the whole table where the key is empty."""
        where = f"{self.name}: " if self.name else ""
        place = (*self.place, key) if key else self.place
        self.document.fault(place, f"{where}{key}{' ' if key else ''}{what}")

    def only(self, known: Collection[str]) -> None:
        """Note every key that is not known, with what was probably meant."""
        for key in self.content.keys() - set(known):
            hint = meant(key, known)
            where = self.name or "the file"
            self.document.fault((*self.place, key), f"{where} has the unknown key {key!r}{hint}")

    def text(self, key: str, pattern: str, words: str, default: str | None = None) -> str:
        """Read a text that matches a pattern; without a default it has to be there."""
        value = self.content.get(key, default)
        if isinstance(value, str) and re.fullmatch(pattern, value):
            return value
        self._wrong(key, value, words)
        return default or ""

    def whole(
        self, key: str, *, least: int, most: int = 1 << 62, default: int | None = None
    ) -> int:
        """Read a whole number; without a default it has to be there."""
        value = self.content.get(key, default)
        if isinstance(value, int) and not isinstance(value, bool) and least <= value <= most:
            return value
        bound = f" to {most}" if most < 1 << 62 else " on"
        self._wrong(key, value, f"a whole number from {least}{bound}")
        return least

    def flag(self, *keys: str) -> bool:
        """Read true or false, which may stand under several names."""
        given = {key: self.content[key] for key in keys if key in self.content}
        for key, value in given.items():
            if not isinstance(value, bool):
                self.fault(key, f"is {value!r}, not true or false")
        if len({str(value) for value in given.values()}) > 1:
            self.fault(keys[-1], f"and {keys[0]} contradict each other")
        return True in given.values()

    def size(self, key: str) -> int:
        """Read a size in bytes; zero is what a fault gives."""
        try:
            size = Amount.parse_size(str(self.content[key])).value
        except KeyError:
            self.fault(key, "is missing")
        except ValueError as exc:
            self.fault(key, f"is no size: {exc}")
        else:
            if size:
                return size
            self.fault(key, "is zero")
        return 0

    def choice(self, key: str, known: Collection[str], default: str | None = None) -> str:
        """Read one of several words, whatever its case; without a default it has to be there."""
        value = self.content.get(key, default)
        for word in known:
            if isinstance(value, str) and word.lower() == value.lower():
                return word
        self._wrong(key, value, f"one of {', '.join(known)}{meant(value, known)}")
        return default or next(iter(known))

    def table(self, key: str) -> Table:
        """Read a table below this one; absent is empty."""
        value = self.content.get(key, {})
        if not isinstance(value, dict):
            self.fault(key, "is not a table")
            value = {}
        return Table(self.document, (*self.place, key), value)

    def tables(self, key: str) -> Iterator[Table]:
        """Read a list of tables below this one; absent is empty."""
        value = self.content.get(key, [])
        if not isinstance(value, list):
            self.fault(key, "is not a list of tables")
            return
        for number, item in enumerate(value):
            place = (*self.place, key, number)
            if isinstance(item, dict):
                yield Table(self.document, place, item)
            else:
                self.document.fault(place, f"{key}[{number}] is not a table")

    def _wrong(self, key: str, value: object, words: str) -> None:
        self.fault(key, "is missing" if value is None else f"is {value!r}, not {words}")


def meant(word: object, known: Collection[str]) -> str:
    """Say which known word was probably meant, as the end of a sentence; empty when none was."""
    import difflib  # only a fault needs it

    folded = {each.lower(): each for each in known}
    near = difflib.get_close_matches(str(word).lower(), folded, n=1)
    return f"; did you mean {folded[near[0]]!r}?" if near else ""
