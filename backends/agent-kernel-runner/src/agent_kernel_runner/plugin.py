"""The entry point: how agent-core learns to start this runner in a kernel."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar, Final

from agent_core.contracts.errors import Unsupported
from agent_core.contracts.info import PluginInfo
from agent_core.contracts.runner import KernelRunner, Launch, LaunchContext
from agent_core.hookspecs import hookimpl

RUNTIME_TYPES: Final = ("python", "shell")
"""The runtime types of images that this runner can run code in."""

_DAEMON = Path(__file__).parent / "daemon" / "__main__.py"
_SCHEMA: Final = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "interrupt-grace": {
            "type": "number",
            "exclusiveMinimum": 0,
            "default": 3.0,
            "description": "Seconds that code has to react to an interrupt before it is killed.",
        }
    },
}


class DefaultRunner(KernelRunner):
    """Starts the runner daemon with the agent's own interpreter, from this package's directory."""

    info: ClassVar[PluginInfo] = PluginInfo(
        kind="runner",
        name="default",
        summary="Runs Python and shell code: queries, batches, input, interrupts, completions",
        config_schema=_SCHEMA,
    )

    def __init__(self) -> None:
        self._grace = 3.0

    def open(self, config: Mapping[str, Any]) -> None:
        """Take ``interrupt-grace`` from the configuration."""
        self._grace = float(config.get("interrupt-grace", 3.0))

    def launch(self, context: LaunchContext) -> Launch:
        """Say how to start the runner in a kernel.

        Raises:
            Unsupported: when the image's runtime type is neither python nor shell.
        """
        if context.runtime_type not in RUNTIME_TYPES:
            raise Unsupported(
                f"runner 'default' cannot run code of runtime type {context.runtime_type!r}"
                f" in kernel {context.kernel_id}",
                hint=f"Use an image whose runtime type is one of {', '.join(RUNTIME_TYPES)}.",
            )
        settings = {**asdict(context), "interrupt_grace": self._grace}
        words = (f"{name}={value}" for name, value in settings.items())
        # Isolated and without site: no package and no variable of the image reaches the daemon.
        return Launch(argv=(sys.executable, "-I", "-S", str(_DAEMON), *words))


@hookimpl
def register_runner() -> type[KernelRunner]:
    """Hand over the runner."""
    return DefaultRunner
