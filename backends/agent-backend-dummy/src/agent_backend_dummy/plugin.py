"""The backend's entry point."""

from __future__ import annotations

from agent_backend_dummy.backend import DummyBackend
from agent_core.contracts.backend import ContainerBackend
from agent_core.hookspecs import hookimpl


@hookimpl
def register_backend() -> type[ContainerBackend]:
    """Register the dummy backend."""
    return DummyBackend
