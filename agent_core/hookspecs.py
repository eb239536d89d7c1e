"""How a plugin registers: one entry point, one module, one function that returns one class.

The entry point's group carries the kind and the version of its contract, and its name is the
plugin's name:

    [project.entry-points."agent_core.device.v1"]
    acme = "accel_acme.plugin"

The module has the hook of its kind and hands over the class, nothing else:

    from agent_core.hookspecs import hookimpl

    @hookimpl
    def register_device():
        return AcmeDevice

Importing that module must be light: no vendor library, no file, no thread, no socket. Whatever the
plugin needs, it takes in `open`.
"""

from __future__ import annotations

from typing import Final

import pluggy

from agent_core.contracts.backend import ContainerBackend
from agent_core.contracts.device import ComputeDevice
from agent_core.contracts.runner import KernelRunner
from agent_core.contracts.scratch import ScratchManager

PROJECT: Final = "agent_core"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec(firstresult=True)
def register_device() -> type[ComputeDevice]:  # type: ignore[empty-body]
    """Return the class of a device plugin (entry-point group ``agent_core.device.v1``)."""


@hookspec(firstresult=True)
def register_backend() -> type[ContainerBackend]:  # type: ignore[empty-body]
    """Return the class of a container backend (entry-point group ``agent_core.backend.v1``)."""


@hookspec(firstresult=True)
def register_scratch() -> type[ScratchManager]:  # type: ignore[empty-body]
    """Return the class of a scratch manager (entry-point group ``agent_core.scratch.v1``)."""


@hookspec(firstresult=True)
def register_runner() -> type[KernelRunner]:  # type: ignore[empty-body]
    """Return the class of a kernel runner (entry-point group ``agent_core.runner.v1``)."""
