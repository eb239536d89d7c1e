"""The entry point: how agent-core learns to start this runner in a kernel."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar, Final

from agent_core.contracts.errors import PluginError, Unsupported
from agent_core.contracts.info import PluginInfo
from agent_core.contracts.runner import KernelRunner, Launch, LaunchContext
from agent_core.hookspecs import hookimpl

from agent_kernel_runner.bundle.places import DAEMON, python_of

RUNTIME_TYPES: Final = ("python", "shell", "app", "jupyter", "jupyter:NAME")
"""The runtime types of images that this runner can run code in; an app is started by commands."""

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
        },
        "bootstrap-timeout": {
            "type": "number",
            "exclusiveMinimum": 0,
            "default": 600.0,
            "description": "Seconds that the bootstrap script of a kernel may run.",
        },
    },
}


class DefaultRunner(KernelRunner):
    """Starts the runner daemon: with the agent's own interpreter, or with that of the bundle."""

    info: ClassVar[PluginInfo] = PluginInfo(
        kind="runner",
        name="default",
        summary="Runs Python and shell code: queries, batches, input, interrupts, completions",
        config_schema=_SCHEMA,
    )

    def __init__(self) -> None:
        self._grace = 3.0
        self._bootstrap_timeout = 600.0

    def open(self, config: Mapping[str, Any]) -> None:
        """Take the times from the configuration."""
        self._grace = float(config.get("interrupt-grace", 3.0))
        self._bootstrap_timeout = float(config.get("bootstrap-timeout", 600.0))

    def launch(self, context: LaunchContext) -> Launch:
        """Say how to start the runner in a kernel.

        Raises:
            Unsupported: when the image's runtime type is none of `RUNTIME_TYPES`.
        """
        if not _is_known(context.runtime_type):
            raise Unsupported(
                f"runner 'default' cannot run code of runtime type {context.runtime_type!r}"
                f" in kernel {context.kernel_id}",
                hint=f"Use an image whose runtime type is one of {', '.join(RUNTIME_TYPES)}.",
            )
        kind = "shell" if context.runtime_type == "app" else context.runtime_type
        settings = {
            **asdict(context),
            "runtime_type": kind,
            "interrupt_grace": self._grace,
            "bootstrap_timeout": self._bootstrap_timeout,
        }
        words = (f"{name}={value}" for name, value in settings.items())
        python, daemon = self._programs(context.runner_dir)
        # Isolated and without site: no package and no variable of the image reaches the daemon.
        return Launch(argv=(*python, "-I", "-S", daemon, *words))

    def _programs(self, bundle: str) -> tuple[tuple[str, ...], str]:
        """Name the interpreter and the daemon, as a kernel sees them."""
        if not bundle:
            return (sys.executable,), str(_DAEMON)
        return tuple(python_of(bundle)), f"{bundle}/{DAEMON}"

    def bundle(self, directory: str, *, anew: bool = False) -> str:
        """Make the bundle of the agent's own Python and this daemon.

        Raises:
            Unsupported: when this Python cannot be bundled.
            PluginError: when it cannot be written.
        """
        from agent_kernel_runner.bundle.building import ensure
        from agent_kernel_runner.bundle.elf import UnfitProgram

        try:
            return str(ensure(Path(directory), anew=anew))
        except UnfitProgram as exc:
            raise Unsupported(
                f"the runner cannot be bundled: {exc}",
                hint="Run the agent with a Python that is linked dynamically, such as Debian's.",
            ) from exc
        except OSError as exc:
            raise PluginError(
                f"the runner's bundle cannot be written: {exc}",
                plugin=self.info.name,
                stage="bundle",
                hint=f"Make room and rights in {directory}, then `agentctl runner build`.",
            ) from exc

    def forget_bundles(self, directory: str) -> None:
        """Remove the bundles of other installations, and damaged ones."""
        from agent_kernel_runner.bundle.building import forget_others

        forget_others(Path(directory))

    def bundle_faults(self, directory: str, *, thorough: bool = False) -> Sequence[str]:
        """Compare the bundle with its manifest."""
        from agent_kernel_runner.bundle.building import name
        from agent_kernel_runner.bundle.manifest import faults

        return faults(Path(directory) / name(), thorough=thorough)


def _is_known(runtime_type: str) -> bool:
    """Tell whether code of a type can be run; that of a Jupyter kernel is followed by its name."""
    kind, colon, name = runtime_type.partition(":")
    return kind in RUNTIME_TYPES and (not colon or (kind == "jupyter" and bool(name)))


@hookimpl
def register_runner() -> type[KernelRunner]:
    """Hand over the runner."""
    return DefaultRunner
