"""The core's side of models: what a runner is asked for, and what becomes of what it tells."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from agent_core.contracts.errors import InvalidArgument, RunnerUnavailable, ServiceFailed
from agent_core.contracts.models import HealthCheck, ModelService, ModelState, ModelStatus
from agent_core.kernels.published import ServicePlace
from agent_core.kernels.runner.runs import Runs

from .conftest import until
from .peers import PEERS, Peer

PLACES = (
    ServicePlace("llm", "http", "0.0.0.0", (30001,)),
    ServicePlace("web", "http", "127.0.0.1", (30002,)),
)
LLM = ModelService("llm", 8000, "serve", "/models", health_check=HealthCheck("/health"))
DEADLINE = 20


def serving(tmp_path, body, *, models=(LLM,)):
    """Serve models by a runner that is the test's own."""

    async def main():
        told = []
        runs = Runs("k", 1, tmp_path, PLACES)
        await runs.open()
        try:
            async with asyncio.timeout(DEADLINE):
                runs.serve(models, told.append)
                return await body(runs, told)
        finally:
            await runs.close()
            for each in PEERS:
                each.writer.close()
                with contextlib.suppress(OSError):
                    await each.writer.wait_closed()
            PEERS.clear()

    return asyncio.run(main())


def state(seq, run_id, status="healthy", name="llm", **fields):
    told = {"type": "model-state", "message": "", "restarts": 0, "exit_code": None}
    return {**told, "seq": seq, "run_id": run_id, "name": name, "status": status, **fields}


def test_each_runner_that_connects_is_asked_for_every_model(tmp_path):
    async def body(runs, told):
        first = await Peer.connect(tmp_path, stream="one")
        asked = await first.read_until("start-model")
        first.raw(b"nonsense, so that the link drops the connection")
        await first.closed()
        second = await Peer.connect(tmp_path, stream="two")
        again = await second.read_until("start-model")
        return asked, again

    asked, again = serving(tmp_path, body)
    assert asked.pop("run_id") != again.pop("run_id")
    assert asked == again
    assert asked == {
        "type": "start-model",
        "name": "llm",
        "host": "0.0.0.0",
        "port": 30001,
        "service": {
            "pre_start_actions": [],
            "start_command": "serve",
            "shell": "",
            "port": 8000,
            "model_path": "/models",
            "health_check": {
                "path": "/health",
                "max_retries": 10,
                "max_wait_time": 15.0,
                "interval": 10.0,
                "expected_status_code": 200,
                "initial_delay": 0.0,
            },
        },
    }


def test_what_is_served_after_a_runner_has_connected_is_asked_for_at_once(tmp_path):
    async def body(runs, told):
        peer = await Peer.connect(tmp_path)
        await until(lambda: runs.connected)
        runs.serve([LLM], told.append)
        return await peer.read_until("start-model")

    assert serving(tmp_path, body, models=())["name"] == "llm"


def test_each_change_is_told_once_and_listed_with_the_services(tmp_path):
    async def body(runs, told):
        peer = await Peer.connect(tmp_path)
        run_id = (await peer.read_until("start-model"))["run_id"]
        peer.send(state(1, run_id, "starting"))
        peer.send(state(2, run_id, "starting"))
        peer.send(state(3, run_id, "unhealthy", message="w" * 2000, restarts=2, exit_code=7))
        peer.send(state(4, run_id, "failed", name="web"))
        peer.send(state(5, run_id, "failed", name="no-such-model"))
        listing = asyncio.ensure_future(runs.services())
        services = await peer.read_until("services")
        rows = [{"name": "web", "state": "running", "exit_code": None}]
        answer = {"type": "services", "seq": 6, "run_id": services["run_id"], "services": rows}
        peer.send(answer)
        return told, await listing

    told, [llm, web] = serving(tmp_path, body)
    unwell = ModelState("llm", ModelStatus.UNHEALTHY, "w" * 1000, 2, 7)
    assert told == [ModelState("llm", ModelStatus.STARTING), unwell]
    assert (llm.running, llm.exit_code, llm.model) == (True, 7, unwell)
    assert (web.running, web.model) == (True, None)


def test_a_start_waits_for_what_comes_of_it_and_not_for_what_was_before(tmp_path):
    async def body(runs, told):
        peer = await Peer.connect(tmp_path)
        run_id = (await peer.read_until("start-model"))["run_id"]
        peer.send(state(1, run_id, "failed", message="before"))
        await until(lambda: told)
        starting = asyncio.ensure_future(runs.start_service("llm", {}))
        asked = await peer.read_until("start-model")
        peer.send(state(2, run_id, "failed", message="late"))
        peer.send(state(3, asked["run_id"], "starting"))
        peer.send(state(4, asked["run_id"], "healthy"))
        return asked["anew"], await starting

    anew, started = serving(tmp_path, body)
    assert anew is True
    assert (started.running, started.model.status) == (True, ModelStatus.HEALTHY)


def test_what_is_sent_again_after_a_lost_connection_is_of_the_past(tmp_path):
    async def body(runs, told):
        first = await Peer.connect(tmp_path, stream="one")
        before = (await first.read_until("start-model"))["run_id"]
        first.send(state(1, before, "starting"))
        await until(lambda: told)
        first.raw(b"nonsense, so that the link drops the connection")
        await first.closed()
        again = await Peer.connect(tmp_path, stream="one")
        asked = (await again.read_until("start-model"))["run_id"]
        again.send(state(2, before, "failed"))
        again.send(state(3, asked, "healthy"))
        await until(lambda: told[1:])
        return [each.status for each in told]

    assert serving(tmp_path, body) == ["starting", "healthy"]


def test_a_start_that_takes_long_returns_how_it_is_then(tmp_path):
    async def body(runs, told):
        peer = await Peer.connect(tmp_path)
        await peer.read_until("start-model")
        starting = asyncio.ensure_future(runs.start_service("llm", {"timeout": "0.2"}))
        asked = await peer.read_until("start-model")
        peer.send(state(1, asked["run_id"], "starting", message="it loads"))
        return await starting

    assert serving(tmp_path, body).model == ModelState("llm", ModelStatus.STARTING, "it loads")


@pytest.mark.parametrize("status", ["failed", "unhealthy", "stopped"])
def test_a_start_that_comes_to_no_good_is_refused_with_why(tmp_path, status):
    async def body(runs, told):
        peer = await Peer.connect(tmp_path)
        await peer.read_until("start-model")
        starting = asyncio.ensure_future(runs.start_service("llm", {}))
        asked = await peer.read_until("start-model")
        peer.send(state(1, asked["run_id"], status, message="why", exit_code=3))
        await starting

    with pytest.raises(ServiceFailed, match=f"model 'llm' of kernel k is {status}: why") as raised:
        serving(tmp_path, body)
    assert raised.value.details == {"exit_code": 3, "because": status}


def test_a_model_takes_no_options(tmp_path):
    async def body(runs, told):
        await runs.start_service("llm", {"theme": "dark", "timeout": "3"})

    with pytest.raises(InvalidArgument, match="model 'llm' takes no option theme"):
        serving(tmp_path, body)


def test_a_stop_waits_for_the_end(tmp_path):
    async def body(runs, told):
        peer = await Peer.connect(tmp_path)
        run_id = (await peer.read_until("start-model"))["run_id"]
        peer.send(state(1, run_id))
        await until(lambda: told)
        stopping = asyncio.ensure_future(runs.shutdown_service("llm"))
        asked = await peer.read_until("stop-model")
        peer.send(state(2, asked["run_id"], "unhealthy"))
        peer.send(state(3, asked["run_id"], "stopped"))
        await stopping
        return asked["name"], [each.status for each in told]

    assert serving(tmp_path, body) == ("llm", ["healthy", "unhealthy", "stopped"])


def test_without_a_runner_a_model_is_neither_started_nor_stopped(tmp_path):
    async def body(runs, told):
        for ask in (runs.start_service("llm", {}), runs.shutdown_service("llm")):
            with pytest.raises(RunnerUnavailable, match="is not connected"):
                await ask
        return told

    assert serving(tmp_path, body) == []


@pytest.mark.parametrize(
    "fields",
    [
        {"status": "well"},
        {"status": 1},
        {"restarts": -1},
        {"restarts": "2"},
        {"message": None},
        {"exit_code": "7"},
        {"name": 5},
    ],
)
def test_what_is_no_state_costs_the_connection(tmp_path, fields):
    async def body(runs, told):
        peer = await Peer.connect(tmp_path)
        run_id = (await peer.read_until("start-model"))["run_id"]
        peer.send({**state(1, run_id), **fields})
        await peer.closed()
        return runs.offences, told

    assert serving(tmp_path, body) == (1, [])
