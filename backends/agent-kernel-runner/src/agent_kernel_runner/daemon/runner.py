"""The daemon as a whole: who is made of what, and in which order it starts and ends."""

from __future__ import annotations

import os
import sys

from agent_kernel_runner.daemon.connection import Connection
from agent_kernel_runner.daemon.executor import BATCH, QUERY, Executor
from agent_kernel_runner.daemon.journal import note
from agent_kernel_runner.daemon.loop import Loop
from agent_kernel_runner.daemon.outbox import Outbox
from agent_kernel_runner.daemon.results import Results
from agent_kernel_runner.daemon.runs import Runs
from agent_kernel_runner.daemon.settings import Settings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from agent_kernel_runner.daemon.interpreter import PythonInterpreter
    from agent_kernel_runner.daemon.process import Processes
    from agent_kernel_runner.jupyter.executor import Jupyter

    Handler = Callable[[dict[str, Any]], None]

_HIDDEN = "\x01D_"
"""How the launcher of a bundle makes names of ``LD_`` begin."""

END_GRACE = 0.5
"""Seconds that children have to end by themselves when the daemon is told to."""

_CHANGING_SERVICES = ("start-service", "shutdown-service")
_ABOUT_SERVICES = (*_CHANGING_SERVICES, "services")
_ABOUT_MODELS = ("start-model", "stop-model")


def main(arguments: Sequence[str]) -> None:
    """Serve one kernel until SIGTERM; then exit with 0."""
    _fill_standard_streams()
    _show_hidden()
    settings = Settings(arguments)
    loop, outbox = Loop(), Outbox()
    runs = Runs(loop, outbox, Results(settings.state_dir), settings.interrupt_grace)
    connection = Connection(loop, outbox, settings, runs.unacknowledged)
    connection.open()
    # The hello is out; everything below is imported and made while the agent reads it.
    _furnish(loop, outbox, settings, runs)
    connection.on_message = runs.handle
    loop.run()
    connection.close()
    sys.exit(0)


def _fill_standard_streams() -> None:
    """Open what was closed, so that no pipe or socket of ours becomes a standard stream."""
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(fd, True)
    os.close(fd)


def _show_hidden() -> None:
    """Give back their names to the variables that the bundle's launcher has hidden.

    They are for what is started here; this process was loaded without them.
    """
    for name in [name for name in os.environ if name.startswith(_HIDDEN)]:
        os.environ["LD_" + name[len(_HIDDEN) :]] = os.environ.pop(name)


def _furnish(loop: Loop, outbox: Outbox, settings: Settings, runs: Runs) -> None:
    import signal

    from agent_kernel_runner.daemon.batch import Batch
    from agent_kernel_runner.daemon.capture import Capture
    from agent_kernel_runner.daemon.process import Processes

    capture = Capture(loop, runs.room, runs.write)
    processes = Processes(loop, capture, settings.work_dir)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.on_signal(number, lambda: _end(loop, processes))
    query = _query(loop, processes, settings, runs)

    def resume() -> None:
        capture.resume()
        query.resume()

    outbox.on_room = resume
    batch = Batch(processes, capture, settings, runs)
    services = _at_first_use(lambda: _services(loop, outbox, processes, settings))
    models = _at_first_use(lambda: _models(loop, outbox, processes, settings))
    handlers = dict.fromkeys(_ABOUT_SERVICES, services)
    changing = {
        **dict.fromkeys(_CHANGING_SERVICES, services),
        **dict.fromkeys(_ABOUT_MODELS, models),
    }
    if settings.bootstrap:
        changing = _bootstrap(loop, processes, settings, runs, changing)
    runs.serve(capture, {QUERY: query, BATCH: batch}, {**handlers, **changing})


def _bootstrap(
    loop: Loop,
    processes: Processes,
    settings: Settings,
    runs: Runs,
    handlers: Mapping[str, Handler],
) -> dict[str, Handler]:
    """Begin with the user's script; runs, and what is to be handled after it, wait for its end."""
    from agent_kernel_runner.daemon.bootstrap import Bootstrap

    runs.hold()
    script = Bootstrap(loop, processes, settings, runs.release)
    script.begin()
    return {kind: script.after(handle) for kind, handle in handlers.items()}


def _services(loop: Loop, outbox: Outbox, processes: Processes, settings: Settings) -> Handler:
    from agent_kernel_runner.daemon.services import Services

    return Services(loop, outbox, processes, settings).handle


def _models(loop: Loop, outbox: Outbox, processes: Processes, settings: Settings) -> Handler:
    from agent_kernel_runner.daemon.models import Models

    return Models(loop, outbox, processes, settings).handle


def _at_first_use(make: Callable[[], Handler]) -> Handler:
    """Make a handler when its first message comes: most kernels never load its code."""
    made: list[Handler] = []

    def handle(message: dict[str, Any]) -> None:
        if not made:
            made.append(make())
        made[0](message)

    return handle


def _end(loop: Loop, processes: Processes) -> None:
    def force() -> None:
        processes.kill()
        loop.stop()

    processes.shut_down(loop.stop)
    loop.call_later(END_GRACE, force)


def _query(loop: Loop, processes: Processes, settings: Settings, runs: Runs) -> Executor:
    if settings.runtime_type == "shell":
        from agent_kernel_runner.daemon.shell import Shell

        return Shell(processes, settings, runs)
    interpreter = _interpreter(loop, processes, settings, runs)
    if settings.bootstrap:
        return interpreter  # what the script prepares may be for it
    try:
        interpreter.launch()
    except OSError as exc:
        note(f"cannot start {settings.runtime_path}: {exc}")
    return interpreter


def _interpreter(
    loop: Loop, processes: Processes, settings: Settings, runs: Runs
) -> PythonInterpreter | Jupyter:
    if settings.runtime_type.startswith("jupyter"):
        from agent_kernel_runner.jupyter.executor import Jupyter

        return Jupyter(loop, processes, settings, runs.room, runs)
    from agent_kernel_runner.daemon.interpreter import PythonInterpreter

    return PythonInterpreter(loop, processes, settings, runs)
