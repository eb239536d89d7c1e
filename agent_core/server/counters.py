"""What the RPC server counts, as plain numbers that metrics read."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from typing import Final

BUCKETS: Final = (0.1, 1.0, 10.0, 30.0, 60.0, 300.0, 600.0)
"""Upper bounds of the durations' buckets, in seconds."""


@dataclass(slots=True)
class MethodCounter:
    """The calls of one method.

    Attributes:
        requests: Calls accepted.
        failures: Calls that ended with an error, by its code.
        seconds: Sum of the durations of calls that ended.
        buckets: How many ended within each bound of `BUCKETS`, not cumulative; the last is beyond.
    """

    requests: int = 0
    failures: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    buckets: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS) + 1))

    def end(self, seconds: float, code: str | None) -> None:
        """Count the end of one call; `code` is its error's, None when it succeeded."""
        self.seconds += seconds
        self.buckets[bisect_left(BUCKETS, seconds)] += 1
        if code is not None:
            self.failures[code] = self.failures.get(code, 0) + 1


@dataclass(slots=True)
class Counters:
    """What happened since the server started.

    Attributes:
        methods: By name of the method; only methods that exist.
        refused: Requests refused before they reached a method, by code.
        malformed: Messages that were not frames of this protocol.
        duplicates: Requests that repeated the id of another and were not answered again.
        vanished: Clients that went away, or did not read, with something still to be sent.
        revoked: Clients that were dropped because their key is no longer allowed.
        backlog: Bytes that wait for clients which do not read, now.
        handshakes_refused: Connections whose key was not allowed.
        defects: Exceptions that were not typed errors.
    """

    methods: dict[str, MethodCounter] = field(default_factory=dict)
    refused: dict[str, int] = field(default_factory=dict)
    malformed: int = 0
    duplicates: int = 0
    vanished: int = 0
    revoked: int = 0
    backlog: int = 0
    handshakes_refused: int = 0
    defects: int = 0

    def method(self, name: str) -> MethodCounter:
        """Return the counter of a method."""
        counter = self.methods.get(name)
        if counter is None:
            counter = self.methods[name] = MethodCounter()
        return counter

    def refuse(self, code: str) -> None:
        """Count a request that was refused before it reached a method."""
        self.refused[code] = self.refused.get(code, 0) + 1
