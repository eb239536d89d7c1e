"""The steps of a create, in order: each takes something, and gives it back from its hold alone."""

from __future__ import annotations

from agent_core.kernels.services import Services
from agent_core.kernels.steps.base import Step
from agent_core.kernels.steps.claims import ClaimsStep
from agent_core.kernels.steps.config_files import ConfigFilesStep
from agent_core.kernels.steps.container import ContainerStep, StartStep, VerifyStep
from agent_core.kernels.steps.devices import DevicesStep
from agent_core.kernels.steps.image import ImageStep
from agent_core.kernels.steps.network import NetworkStep
from agent_core.kernels.steps.ports import PortsStep
from agent_core.kernels.steps.run_dir import RunDirStep
from agent_core.kernels.steps.runner import RunnerStep
from agent_core.kernels.steps.scratch import ScratchStep

ORDER: tuple[type[Step], ...] = (
    ClaimsStep,
    ImageStep,
    PortsStep,
    ScratchStep,
    RunDirStep,
    DevicesStep,
    ConfigFilesStep,
    NetworkStep,
    ContainerStep,
    StartStep,
    VerifyStep,
    RunnerStep,
)
"""Every step, in the order of taking; giving back goes the other way."""


def make_steps(services: Services) -> tuple[Step, ...]:
    """Make one of each step; they are shared by all kernels and hold no state of any."""
    return tuple(step(services) for step in ORDER)


__all__ = ["ORDER", "Step", "make_steps"]
