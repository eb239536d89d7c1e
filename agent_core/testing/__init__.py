"""The conformance kit: subclass the contract of your kind, and pytest proves your plugin.

from agent_core.testing import ComputeDeviceContract

class TestAcme(ComputeDeviceContract):
    @pytest.fixture
    def plugin(self):
        return AcmeDevice

Install it with ``agent-core[testing]``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agent_core.testing.backend import ContainerBackendContract
    from agent_core.testing.device import ComputeDeviceContract
    from agent_core.testing.scratch import ScratchManagerContract

__all__ = ["ComputeDeviceContract", "ContainerBackendContract", "ScratchManagerContract"]

_HOME = {
    "ComputeDeviceContract": "agent_core.testing.device",
    "ContainerBackendContract": "agent_core.testing.backend",
    "ScratchManagerContract": "agent_core.testing.scratch",
}

_SHARED = (
    "agent_core.testing.lifetime",
    "agent_core.testing.backend_files",
    "agent_core.testing.backend_images",
    "agent_core.testing.backend_optional",
)
"""Where assertions are beside those of the suites' own modules."""


def __getattr__(name: str) -> Any:
    """Import a suite when it is asked for, with its assertions explained by pytest."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import pytest

    pytest.register_assert_rewrite(*_SHARED, _HOME[name])
    return getattr(import_module(_HOME[name]), name)
