"""The entry point of the process backend."""

from __future__ import annotations

from agent_backend_process.backend import ProcessBackend
from agent_core.contracts.backend import ContainerBackend
from agent_core.hookspecs import hookimpl


@hookimpl
def register_backend() -> type[ContainerBackend]:
    """Hand over the class of the process backend."""
    return ProcessBackend
