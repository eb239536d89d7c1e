"""Plain data, as the conformance suites use it; see `agent_core.contracts.plain`."""

from __future__ import annotations

from agent_core.contracts.plain import from_plain, to_plain

__all__ = ["from_plain", "to_plain"]
