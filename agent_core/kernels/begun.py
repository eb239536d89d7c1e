"""Beginning to wait: what is there at once costs no timer and no turn of the loop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Generator
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Begun(Generic[T]):
    """An awaitable that has run up to where it first has to wait, or to its end.

    Make one inside of the task that is to await it, and await it unless it is done: a deadline is
    needed only for what does wait. What the awaitable raises before that is raised at once.
    """

    __slots__ = ("_first", "_result", "_steps", "is_done")

    def __init__(self, awaitable: Awaitable[T]) -> None:
        self._steps: Generator[Any, Any, T] = awaitable.__await__()
        self._first: Any = None
        self._result: T | None = None
        self.is_done = False
        try:
            self._first = next(self._steps)
        except StopIteration as end:
            self._result = end.value
            self.is_done = True

    def result(self) -> T:
        """Return what the awaitable has returned.

        Raises:
            asyncio.InvalidStateError: when it is not done.
        """
        if not self.is_done:
            raise asyncio.InvalidStateError("it has not ended yet")
        return self._result  # type: ignore[return-value]

    def __await__(self) -> Generator[Any, Any, T]:
        """Go on from where it waits."""
        if self.is_done:
            return self.result()
        waits_for = self._first
        try:
            while True:
                try:
                    sent = yield waits_for
                except BaseException as exc:  # noqa: BLE001 - a cancellation is the awaitable's too
                    waits_for = self._steps.throw(exc)
                else:
                    waits_for = self._steps.send(sent)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
