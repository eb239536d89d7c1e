"""The entry point of the Docker backend."""

from __future__ import annotations

from agent_backend_docker.backend import DockerBackend
from agent_core.contracts.backend import ContainerBackend
from agent_core.hookspecs import hookimpl


@hookimpl
def register_backend() -> type[ContainerBackend]:
    """Hand over the class of the Docker backend."""
    return DockerBackend
