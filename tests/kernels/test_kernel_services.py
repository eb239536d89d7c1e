"""The core's side of services: what is asked of a runner, and what it may answer."""

from __future__ import annotations

import asyncio

import pytest

from agent_core.contracts.backend import PublishedPort
from agent_core.contracts.errors import (
    Conflict,
    InvalidArgument,
    NotFound,
    RunnerUnavailable,
    ServiceFailed,
    Unsupported,
)
from agent_core.contracts.runner import ServiceState
from agent_core.kernels.published import ServicePlace, places
from agent_core.kernels.runner.runs import Runs
from agent_core.wire.content import SERVICE_PATIENCE, start_patience

from .peers import PEERS, Peer, finished

PLACES = (ServicePlace("web", "http", "127.0.0.1", (30001,)),)
DEADLINE = 20


def asking(tmp_path, ask, answer, *, places=PLACES):
    """Ask something of a runner that answers as a test says."""

    async def main():
        runs = Runs("k", 1, tmp_path, places)
        await runs.open()
        try:
            async with asyncio.timeout(DEADLINE):
                peer = await Peer.connect(tmp_path)
                asked = asyncio.ensure_future(ask(runs))
                message = await peer.read_until(answer["type"])
                for reply in answer["replies"](message["run_id"]):
                    peer.send(reply)
                return message, await asked
        finally:
            await runs.close()
            for each in PEERS:
                each.writer.close()
            PEERS.clear()

    return asyncio.run(main())


def state(seq, run_id, state="running", **fields):
    told = {"type": "service-state", "name": "web", "state": state, "exit_code": None}
    return {**told, "seq": seq, "run_id": run_id, **fields}


def replying(kind, *replies):
    return {"type": kind, "replies": lambda run_id: [each(run_id) for each in replies]}


def starting(tmp_path, *replies, options=(), **changes):
    ask = lambda runs: runs.start_service("web", dict(options))  # noqa: E731 - of one line
    return asking(tmp_path, ask, replying("start-service", *replies), **changes)


def test_a_start_says_where_to_listen_and_returns_what_the_runner_says(tmp_path):
    options = {"theme": "dark", "timeout": "7"}
    message, told = starting(tmp_path, lambda run: state(1, run), options=options)
    assert told == ServiceState("web", "http", (30001,), running=True)
    del message["run_id"]
    assert message == {
        "type": "start-service",
        "name": "web",
        "protocol": "http",
        "host": "127.0.0.1",
        "ports": [30001],
        "options": {"theme": "dark"},
        "timeout": 7.0,
    }


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("not-found", NotFound),
        ("invalid", InvalidArgument),
        ("conflict", Conflict),
        ("unsupported", Unsupported),
        ("failed", ServiceFailed),
        ("not-ready", ServiceFailed),
        ("bad-definition", ServiceFailed),
        ("of a later version", ServiceFailed),
    ],
)
def test_each_refusal_is_an_error_of_its_kind(tmp_path, code, error):
    def refused(run):
        return state(1, run, "stopped", error=code, message="why", log="a\nb\n", exit_code=3)

    with pytest.raises(error, match="service 'web' of kernel k: why") as raised:
        starting(tmp_path, refused)
    if error is ServiceFailed:
        assert raised.value.details == {"exit_code": 3, "log": "a\nb\n", "because": code}
        assert raised.value.hint == "It said at last:\na\nb"


@pytest.mark.parametrize(
    "reply",
    [
        lambda run: finished(1, run),
        lambda run: {"type": "services", "seq": 1, "run_id": run, "services": []},
        lambda run: {"type": "completions", "seq": 1, "run_id": run, "matches": []},
    ],
)
def test_what_answers_nothing_is_no_answer(tmp_path, reply):
    with pytest.raises(RunnerUnavailable, match="ended before it told the state of service 'web'"):
        starting(tmp_path, reply)


@pytest.mark.parametrize(
    "fields",
    [
        {"state": "asleep"},
        {"state": 1},
        {"exit_code": "0"},
        {"name": "x" * 65},
        {"error": 1},
        {"log": "x" * 40_000},
    ],
)
def test_a_malformed_answer_costs_the_runner_its_connection(tmp_path, fields):
    async def main():
        runs = Runs("k", 1, tmp_path, PLACES)
        await runs.open()
        async with asyncio.timeout(DEADLINE):
            peer = await Peer.connect(tmp_path)
            asked = asyncio.ensure_future(runs.start_service("web", {}))
            run_id = (await peer.read_until("start-service"))["run_id"]
            peer.send({**state(1, run_id), **fields})
            assert await peer.closed()
            again = await Peer.connect(tmp_path)
            repeated = await again.read_until("start-service")
            again.send(state(1, run_id))
            told = await asked
        await runs.close()
        for each in PEERS:
            each.writer.close()
        PEERS.clear()
        return run_id, repeated["run_id"], told.running, runs.offences

    run_id, repeated, running, offences = asyncio.run(main())
    assert (repeated, running, offences) == (run_id, True, 1)


def test_a_list_has_what_is_published_and_what_the_runner_says_of_that(tmp_path):
    told = [
        {"name": "web", "state": "stopped", "exit_code": 7},
        {"name": "never published", "state": "running", "exit_code": None},
    ]
    other = ServicePlace("tb", "tcp", "127.0.0.1", (30002, 30003))
    _, rows = asking(
        tmp_path,
        lambda runs: runs.services(),
        replying(
            "services", lambda r: {"type": "services", "seq": 1, "run_id": r, "services": told}
        ),
        places=(*PLACES, other),
    )
    assert rows == [
        ServiceState("web", "http", (30001,), running=False, exit_code=7),
        ServiceState("tb", "tcp", (30002, 30003)),
    ]


def test_of_a_kernel_that_publishes_nothing_no_runner_is_asked(tmp_path):
    async def main():
        runs = Runs("k", 1, tmp_path)
        listed = await runs.services()
        with pytest.raises(NotFound, match="kernel k publishes no service 'web'"):
            await runs.start_service("web", {})
        with pytest.raises(NotFound):
            await runs.shutdown_service("web")
        return listed

    assert asyncio.run(main()) == []


@pytest.mark.parametrize("seconds", ["", "x", "0", "-1", "nan", "inf", "601"])
def test_a_timeout_is_a_number_of_seconds(tmp_path, seconds):
    async def main():
        with pytest.raises(InvalidArgument, match="option timeout"):
            await Runs("k", 1, tmp_path, PLACES).start_service("web", {"timeout": seconds})

    asyncio.run(main())


def test_a_client_waits_longer_than_a_service_may_take():
    assert start_patience({}) == start_patience({"timeout": "x"}) == SERVICE_PATIENCE
    assert start_patience({"timeout": "100"}) > 100


def test_a_service_listens_where_its_backend_leads_the_hosts_ports():
    ports = [
        PublishedPort("web", "http", 8080, 30001, "127.0.0.1"),
        PublishedPort("tb", "tcp", 6006, 30002, "127.0.0.1"),
        PublishedPort("tb", "tcp", 6007, 30003, "127.0.0.1"),
    ]
    assert places(ports, mapped=True) == (
        ServicePlace("web", "http", "0.0.0.0", (8080,)),
        ServicePlace("tb", "tcp", "0.0.0.0", (6006, 6007)),
    )
    assert places(ports, mapped=False) == (
        ServicePlace("web", "http", "127.0.0.1", (30001,)),
        ServicePlace("tb", "tcp", "127.0.0.1", (30002, 30003)),
    )
