"""How long the simulated runtime takes: drawn anew at each call, from a generator with a seed."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping

from agent_backend_dummy.settings import Span


class Delays:
    """Waits as long as each step is configured to take; a step without a delay takes no turn."""

    def __init__(self, spans: Mapping[str, Span], draws: random.Random) -> None:
        self._spans = {name: span for name, span in spans.items() if span[1] > 0}
        self._draws = draws

    def seconds(self, *steps: str) -> float:
        """Draw the seconds of some steps together."""
        if not self._spans:
            return 0.0
        spans = (self._spans.get(step) for step in steps)
        return sum(self._draws.uniform(*span) for span in spans if span is not None)

    async def spend(self, *steps: str) -> None:
        """Wait as long as some steps take together."""
        seconds = self.seconds(*steps)
        if seconds > 0:
            await asyncio.sleep(seconds)
