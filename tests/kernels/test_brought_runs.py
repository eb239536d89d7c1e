"""Code that is run by a runner which the backend brings: checked replies and bounded waits."""

from __future__ import annotations

import asyncio

import pytest

from agent_core.contracts.errors import (
    Conflict,
    KernelFailed,
    NotFound,
    PluginContractBroken,
    RunnerUnavailable,
)
from agent_core.contracts.models import ModelService, ModelState, ModelStatus
from agent_core.contracts.runner import CodeRunner, ServiceState
from agent_core.kernels.runner import brought
from agent_core.kernels.runner.brought import BroughtRuns
from agent_core.wire.params import ExecuteCode

DEADLINE = 20


class Runner(CodeRunner):
    """Does as a test tells it."""

    def __init__(self, messages=(), *, hang=False):
        self.messages = messages
        self.hang = hang
        self.opened = self.closed = 0
        self.abandoned = asyncio.Event()
        self.reached = asyncio.Event()
        self.failure = None

    async def open(self):
        self.opened += 1
        if self.failure is not None:
            raise self.failure

    async def close(self):
        self.closed += 1

    async def execute(self, run):
        try:
            for message in self.messages:
                yield message
            if self.hang:
                self.reached.set()
                await asyncio.Event().wait()
        finally:
            self.abandoned.set()

    async def send_input(self, run_id, text):
        raise NotFound(f"no run {run_id}")

    async def interrupt(self, run_id):
        self.interrupted = run_id

    async def complete(self, code, cursor):
        return self.messages

    async def services(self):
        return self.messages

    async def start_model(self, model):
        if isinstance(self.messages, Exception):
            raise self.messages
        return self.messages or await super().start_model(model)

    async def start_service(self, name, options):
        return ServiceState(name, "http", (8000,), running=True)

    async def shutdown_service(self, name):
        self.ended = name


DONE = {"type": "finished", "status": "finished", "exit_code": 0}


def run(body, *args, **kw):
    async def main():
        async with asyncio.timeout(DEADLINE):
            runner = Runner(*args, **kw)
            return await body(BroughtRuns("k", runner, "acme"), runner)

    return asyncio.run(main())


async def executed(runs, run_id="r", timeout=None):
    asked = ExecuteCode(kernel_id="k", run_id=run_id, code="1", timeout=timeout)
    return [item async for item in runs.execute(asked)]


def test_a_run_yields_what_the_runner_says_and_its_result_last():
    output = {"type": "output", "stream": "stdout", "text": "hi"}

    async def body(runs, runner):
        assert not runs.connected
        items = await executed(runs)
        return items, runs.connected, runner.opened

    items, connected, opened = run(body, [{"type": "started"}, output, {"type": "new"}, DONE])
    assert [item.kind for item in items[:-1]] == ["started", "output"]
    assert (items[-1].status, items[-1].exit_code) == ("finished", 0)
    assert connected
    assert opened == 1


@pytest.mark.parametrize(
    "messages", [[], [{"type": "finished"}], [{"type": "output", "text": 1}], ["words"]]
)
def test_a_reply_that_breaks_the_contract_is_said_to_break_it(messages):
    async def body(runs, _):
        with pytest.raises(PluginContractBroken, match="execute"):
            await executed(runs)
        return runs._running

    assert run(body, messages) == {}


def test_a_run_that_never_ends_is_ended_for_its_caller(monkeypatch):
    monkeypatch.setattr(brought, "OVERRUN", 0.01)

    async def body(runs, runner):
        items = await executed(runs, timeout=0.01)
        await runner.abandoned.wait()
        return items

    assert [item.status for item in run(body, hang=True)] == ["exec-timeout"]


def test_the_end_of_the_kernel_ends_its_runs_and_refuses_more():
    async def body(runs, runner):
        running = asyncio.ensure_future(executed(runs))
        await runner.reached.wait()
        with pytest.raises(Conflict):
            await executed(runs)
        await runs.close()
        await runs.close()
        with pytest.raises(KernelFailed):
            await running
        await runner.abandoned.wait()
        with pytest.raises(KernelFailed):
            await executed(runs, "other")
        return runner.closed

    assert run(body, hang=True) == 1


def test_a_runner_that_cannot_be_opened_is_tried_again():
    async def body(runs, runner):
        runner.failure = RunnerUnavailable("not yet")
        with pytest.raises(RunnerUnavailable):
            await runs.wait_ready(1)
        runner.failure = None
        await runs.resume()
        await runs.wait_ready(1)
        return runs.connected, runner.opened

    assert run(body) == (True, 2)


def test_a_runner_that_takes_too_long_to_open_is_not_ready():
    async def body(runs, runner):
        runner.open = asyncio.Event().wait
        with pytest.raises(RunnerUnavailable, match="not ready within"):
            await runs.wait_ready(0.01)
        await runs.close()
        return runs.connected

    assert run(body) is False


def test_what_the_runner_raises_and_answers_is_checked():
    async def body(runs, runner):
        with pytest.raises(NotFound):
            await runs.send_input("r", "x")
        with pytest.raises(PluginContractBroken, match="ServiceState"):
            await runs.services()
        with pytest.raises(PluginContractBroken, match="complete"):
            await runs.complete("c", "im", 2)
        runner.messages = [ServiceState("jupyter", "http", (8080,))]
        assert await runs.services() == runner.messages
        runner.messages = ["import"]
        assert await runs.complete("c", "im", 2) == ["import"]
        await runs.interrupt("r")
        return runner.interrupted

    assert run(body, [1]) == "r"


LLM = ModelService("llm", 8000, "serve")


def test_models_are_started_told_of_and_listed():
    async def body(runs, runner):
        told, changed = [], asyncio.Event()

        def tell(state):
            told.append(state.status)
            changed.set()

        async def after(status):
            while told[-1:] != [status]:
                changed.clear()
                await changed.wait()

        runs.serve([LLM], tell)
        await after("healthy")
        await runs.shutdown_service("llm")
        await runs.shutdown_service("web")
        await runs.start_service("llm", {})
        runner.messages = [ServiceState("llm", "http", (8000,)), ServiceState("web", "http", (1,))]
        llm, web = await runs.services()
        await runs.close()
        return told, llm.model, web.model

    healthy = ModelState("llm", ModelStatus.HEALTHY)
    told, llm, web = run(body, healthy)
    assert told == ["starting", "healthy", "stopped", "healthy"]
    assert (llm, web) == (healthy, None)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ((), "this runner serves no models"),
        (NotFound("no such model"), "no such model"),
        (KeyError("x"), "failed in start_model: KeyError"),
        (ModelState("other", ModelStatus.HEALTHY), "its runner answered ModelState(name='other'"),
        (["healthy"], "its runner answered ['healthy']"),
    ],
)
def test_a_model_that_the_runner_cannot_start_has_failed(answer, why):
    async def body(runs, _):
        failed = asyncio.get_running_loop().create_future()
        runs.serve([LLM], lambda s: s.status == "failed" and failed.set_result(s))
        state = await failed
        await runs.close()
        return state

    assert why in run(body, answer).message
