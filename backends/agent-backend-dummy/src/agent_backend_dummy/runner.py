"""The two code runners of simulated kernels: with sockets, and without."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from agent_backend_dummy.day import Day
from agent_backend_dummy.faults import Subject
from agent_core.contracts.errors import NotFound
from agent_core.contracts.models import ModelService, ModelState, ModelStatus
from agent_core.contracts.runner import CodeRunner, Run, RunnerContext, ServiceState

if TYPE_CHECKING:
    import zmq.asyncio


class DummyFakeCodeRunner(CodeRunner):
    """Answers at once, within the agent: nothing is executed, and no socket is opened.

    A run ends as finished with exit code 0, unless a fault says otherwise.
    """

    __slots__ = ("_context", "_day", "_running")

    def __init__(self, day: Day, context: RunnerContext) -> None:
        self._day = day
        self._context = context
        self._running: dict[str, ServiceState] = {}

    @property
    def _subject(self) -> Subject:
        return Subject(self._context.kernel_id, self._context.container)

    async def open(self) -> None:
        """Take as long as looking at a kernel's status takes."""
        await self._day.step("open-runner", self._subject, _nothing, "check-status")

    async def close(self) -> None:
        """Forget the services that were started."""
        self._running.clear()

    async def execute(self, run: Run) -> AsyncIterator[Mapping[str, Any]]:
        """Say that the run began and has ended; nothing is executed."""
        yield {"type": "started"}
        await self._day.step("execute", self._subject, _nothing)
        yield {"type": "finished", "status": "finished", "exit_code": 0}

    async def send_input(self, run_id: str, text: str) -> None:
        """Take an input; nobody reads it."""
        await self._day.step("send-input", self._subject, _nothing)

    async def interrupt(self, run_id: str | None) -> None:
        """Interrupt nothing, in the time that it takes."""
        await self._day.step("interrupt", self._subject, _nothing, "interrupt-kernel")

    async def complete(self, code: str, cursor: int) -> Sequence[str]:
        """Complete nothing, in the time that it takes."""
        return await self._day.step("complete", self._subject, _no_words, "get-completions")

    async def services(self) -> Sequence[ServiceState]:
        """List what the kernel publishes, and what of it was started."""
        return await self._day.step("services", self._subject, self._all, "get-service-apps")

    def _all(self) -> Sequence[ServiceState]:
        return [self._running.get(each.name, each) for each in self._context.services]

    def _service(self, name: str) -> ServiceState:
        known = {each.name: each for each in self._context.services}
        if name not in known:
            here = f"it has: {', '.join(known)}" if known else "it publishes none"
            what = f"kernel {self._context.kernel_id} has no service {name!r}"
            raise NotFound(what, hint=here[0].upper() + here[1:])
        return known[name]

    async def start_service(self, name: str, options: Mapping[str, str]) -> ServiceState:
        """Start a service, in the time that it takes; one that runs is left as it is."""
        service = self._service(name)
        return await self._begin(service, "start-service")

    async def start_model(self, model: ModelService) -> ModelState:
        """Start a model service, in the time that it takes; it is well at once."""
        await self._begin(self._service(model.name), "start-model-service")
        return ModelState(model.name, ModelStatus.HEALTHY)

    async def _begin(self, service: ServiceState, delay: str) -> ServiceState:
        def begin() -> ServiceState:
            state = ServiceState(service.name, service.protocol, service.ports, running=True)
            return self._running.setdefault(service.name, state)

        return await self._day.step("start-service", self._subject, begin, delay)

    async def shutdown_service(self, name: str) -> None:
        """End a service, in the time that it takes."""
        self._service(name)

        def end() -> None:
            self._running.pop(name, None)

        await self._day.step("shutdown-service", self._subject, end, "shutdown-service")


class DummyCodeRunner(DummyFakeCodeRunner):
    """Has the sockets of a real runner for each kernel, connected to each other; runs nothing.

    What is executed goes through them and comes back, so that a node's descriptors, memory and
    time are as with runners that are reached by ZeroMQ.
    """

    __slots__ = ("_agent_side", "_kernel_side")

    def __init__(self, day: Day, context: RunnerContext) -> None:
        super().__init__(day, context)
        self._agent_side: zmq.asyncio.Socket | None = None
        self._kernel_side: zmq.asyncio.Socket | None = None

    async def open(self) -> None:
        """Open both sides and send something through, as a kernel's status would be asked for."""
        import zmq
        import zmq.asyncio

        if self._agent_side is None:
            context = zmq.asyncio.Context.instance()
            self._agent_side = context.socket(zmq.PAIR)
            self._kernel_side = context.socket(zmq.PAIR)
            for side in (self._agent_side, self._kernel_side):
                side.setsockopt(zmq.LINGER, 0)
            address = f"inproc://{id(self)}.{self._context.container}"
            self._kernel_side.bind(address)
            self._agent_side.connect(address)
        await self._through(b"status")
        await super().open()

    async def _through(self, message: bytes) -> bytes:
        if self._agent_side is None or self._kernel_side is None:
            return b""
        await self._agent_side.send(message)
        return bytes(await self._kernel_side.recv())

    async def execute(self, run: Run) -> AsyncIterator[Mapping[str, Any]]:
        """Send the code through the sockets; nothing is executed."""
        await self._through(run.code.encode())
        async with contextlib.aclosing(super().execute(run)) as messages:  # type: ignore[type-var]
            async for message in messages:
                yield message

    async def close(self) -> None:
        """Close both sides."""
        for side in (self._agent_side, self._kernel_side):
            if side is not None:
                side.close()
        self._agent_side = self._kernel_side = None
        await super().close()


def _nothing() -> None:
    return None


def _no_words() -> Sequence[str]:
    return ()
