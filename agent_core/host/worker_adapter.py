"""The adapter of a plugin that lives in a worker process: same calls, other address."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from agent_core.contracts.errors import (
    PluginContractBroken,
    PluginError,
    PluginTimeout,
    PluginUnavailable,
)
from agent_core.contracts.info import PluginInfo, Reconfigured
from agent_core.contracts.plain import from_plain, to_plain
from agent_core.host import loader
from agent_core.host.candidates import Candidate
from agent_core.host.channel import LOAD, Garbled
from agent_core.host.failures import Failure, RemoteTraceback, rebuilt
from agent_core.host.signatures import signature
from agent_core.host.supervisor import LANE_OF, LANES
from agent_core.host.worker_process import WorkerLost, WorkerProcess

START_TIME: Final = 10.0
"""Seconds that a worker has to start, beyond the deadline of the import itself."""


@dataclass(frozen=True, slots=True)
class Described:
    """What a worker says of the plugin that it has loaded."""

    class_name: str
    load_ms: float
    info: PluginInfo


class WorkerAdapter:
    """The plugin's object in a worker, which may be replaced by another.

    Args:
        candidate: The plugin.
        label: The plugin as messages name it.
        start: Starts the process.

    Attributes:
        garbled: How many workers were killed for sending what is no answer.
    """

    def __init__(
        self,
        candidate: Candidate,
        label: str,
        start: Callable[[str, str, Sequence[str]], WorkerProcess] = WorkerProcess,
    ) -> None:
        self._candidate = candidate
        self._label = label
        self._start = start
        self._process: WorkerProcess | None = None
        self._info: PluginInfo | None = None
        self._config: Mapping[str, Any] = {}
        self._closed = False
        self._changing = threading.Lock()
        self.garbled = 0

    @property
    def process(self) -> WorkerProcess | None:
        """The present worker; None before it was started."""
        return self._process

    def begin(self) -> None:
        """Start a worker, which has loaded nothing yet.

        Raises:
            PluginUnavailable: when it cannot be started, or the adapter was closed.
        """
        try:
            process = self._start(self._label, self._candidate.name, list(self._lanes()))
        except OSError as exc:
            raise self._unavailable("start", f"cannot be started: {exc}") from exc
        with self._changing:
            self._process = process
            closed = self._closed
        if closed:
            process.end()
            raise self._unavailable("start", "is not wanted any more")

    def load(self, deadline: float) -> Described:
        """Let the worker import the plugin and check it; blocks up to the deadline and a while.

        Raises:
            PluginError: as `loader.load`; and when the worker dies of the import.
        """
        arguments = (list(self._candidate), deadline)
        reply = self._request("control", LOAD, arguments, deadline + START_TIME)
        return self._read(Described, LOAD, reply)  # type: ignore[no-any-return] # read by this type

    def start_again(self, deadline: float) -> None:
        """Begin, load and open with the same configuration; blocks up to the deadlines.

        Raises:
            AgentError: when any of that fails; the worker was ended.
        """
        self.end()
        self.begin()
        try:
            self.load(loader.IMPORT_DEADLINE)
            self._open(self._config, deadline)
        except BaseException:
            self.end()
            raise

    def invoke(self, method: str, args: tuple[Any, ...]) -> Any:
        """Call a method in the worker; closing ends it."""
        if method == "open":
            self._config = args[0]
            return self._open(self._config)
        if method == "close":
            return self._close()
        reply = self._call(method, args)
        if method == "reconfigure" and reply == Reconfigured.APPLIED:
            self._config = args[0]
        return reply

    def info(self) -> object:
        """Return what the open object said of itself."""
        return self._info

    def overrides(self, methods: Sequence[str]) -> bool:
        """Take it for one that does: its class is not here to be looked at."""
        return True

    def overdue(self, method: str, deadline: float) -> None:
        """Kill the worker: what hangs in it cannot be ended otherwise."""
        if self._process is not None:
            self._process.kill(f"it was still in {method}() after {deadline:g} s")

    def end(self) -> str:
        """End the worker where there is one, and say how it ended; blocks for a moment."""
        return "was not started" if self._process is None else self._process.end()

    def close(self) -> None:
        """End the worker for good; none is started afterwards."""
        with self._changing:
            self._closed = True
        self.end()

    def _open(self, config: Mapping[str, Any], deadline: float | None = None) -> None:
        reply = self._request("control", "open", (config,), deadline)
        self._info = self._read(PluginInfo | None, "open", reply)

    def _close(self) -> None:
        if self._process is None:
            return
        try:
            self._call("close", ())
        except PluginUnavailable:
            return  # what is gone is closed
        finally:
            self.end()

    def _call(self, method: str, args: tuple[Any, ...]) -> Any:
        lane = LANE_OF.get((self._candidate.kind, method), "control")
        try:
            reply = signature(self._candidate.kind, method).reply
        except LookupError as exc:
            raise PluginError(str(exc), plugin=self._candidate.name, stage=method) from exc
        return self._read(reply, method, self._request(lane, method, args))

    def _request(
        self, lane: str, method: str, args: Sequence[Any], timeout: float | None = None
    ) -> Any:
        process = self._process
        if process is None:
            raise self._unavailable(method, "is not running")
        try:
            done, reply = process.request(lane, method, to_plain(list(args)), timeout)
        except WorkerLost as exc:
            self.garbled += isinstance(exc.__cause__, Garbled)
            error = self._unavailable(method, str(exc))
            error.__cause__ = RemoteTraceback(process.output.tail)
            raise error from error.__cause__
        except TimeoutError as exc:
            what = "is still importing" if method == LOAD else f"is still in {method}()"
            raise self._failed(PluginTimeout, method, what) from exc
        except (Garbled, TypeError) as exc:
            raise self._failed(PluginError, method, f"cannot be asked {method}(): {exc}") from exc
        if done:
            return reply
        name = self._candidate.name
        raise rebuilt(self._read(Failure, method, reply), self._label, name, method)

    def _read(self, kind: Any, method: str, plain: Any) -> Any:
        try:
            return from_plain(kind, plain)
        except (TypeError, ValueError) as exc:
            what = f"answers {method}() with what its contract does not say: {exc}"
            raise self._failed(PluginContractBroken, method, what) from exc

    def _lanes(self) -> Sequence[str]:
        return sorted(LANES[self._candidate.kind], key=lambda lane: lane != "control")

    def _unavailable(self, method: str, what: str) -> PluginUnavailable:
        name = self._candidate.name
        message = f"the worker of {self._label} {what}"
        details = {"reason": f"its worker {what}"}
        return PluginUnavailable(message, plugin=name, stage=method, details=details)

    def _failed(self, error: type[PluginError], method: str, what: str) -> PluginError:
        message = f"{self._label} {what}"
        name = self._candidate.name
        return error(message, plugin=name, stage=method, details={"reason": what})
