"""What the daemon was started with."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


class Settings:
    """The launch context of the kernel, as `agent_core.contracts.runner` describes it.

    Args:
        arguments: ``NAME=VALUE`` for each attribute, in any order.

    Attributes:
        kernel_id: The kernel.
        incarnation: How often it has been created.
        run_dir: Where the agent's socket lies.
        work_dir: Where code runs.
        state_dir: Where results lie until they are acknowledged.
        runtime_type: ``python`` or ``shell``.
        runtime_path: The image's interpreter.
        runner_dir: The bundle that the daemon was started from; empty when it was from none.
        bootstrap: A script that is run before anything else; empty for none.
        bootstrap_timeout: Seconds that it may run.
        debug: Whether what is heard and said is noted in the kernel's log.
        interrupt_grace: Seconds that code has to react to an interrupt.
    """

    __slots__ = (
        "bootstrap",
        "bootstrap_timeout",
        "debug",
        "incarnation",
        "interrupt_grace",
        "kernel_id",
        "run_dir",
        "runner_dir",
        "runtime_path",
        "runtime_type",
        "state_dir",
        "work_dir",
    )

    def __init__(self, arguments: Sequence[str]) -> None:
        # Plain words, since parsing them as JSON would cost a third of the start.
        values = dict(argument.split("=", 1) for argument in arguments)
        self.kernel_id = values["kernel_id"]
        self.incarnation = int(values["incarnation"])
        self.run_dir = values["run_dir"]
        self.work_dir = values["work_dir"]
        self.state_dir = values["state_dir"]
        self.runtime_type = values["runtime_type"]
        self.runtime_path = values["runtime_path"]
        self.runner_dir = values.get("runner_dir", "")
        self.bootstrap = values.get("bootstrap", "")
        self.bootstrap_timeout = float(values["bootstrap_timeout"])
        self.debug = values.get("debug") == "True"
        self.interrupt_grace = float(values["interrupt_grace"])
