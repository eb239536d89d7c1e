"""The link to a runner: exactly once, in order, within its credit, whatever the other side does."""

import asyncio
import contextlib
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent_core.contracts.errors import (
    Conflict,
    InvalidConfig,
    KernelFailed,
    MalformedFrame,
    RunnerUnavailable,
)
from agent_core.contracts.runner import MAX_FRAME
from agent_core.kernels.runner import runs as runs_module
from agent_core.kernels.runner.link import WINDOW
from agent_core.kernels.runner.messages import read_hello, read_report
from agent_core.kernels.runner.runs import Runs
from agent_core.wire.models import OutputItem, RunResult
from agent_core.wire.params import ExecuteCode

from .peers import Peer, collect, finished, output, with_runs


def test_a_run_yields_what_the_runner_says_and_its_result_last(tmp_path):
    async def body(runs):
        peer = await Peer.connect(tmp_path)
        task = asyncio.ensure_future(collect(runs))
        execute = await peer.read_until("execute")
        peer.send({"type": "started", "seq": 1, "run_id": "r1"})
        peer.send(output(2, "hello"))
        peer.send(finished(3, code=7))
        ack = await peer.read_until("ack")
        return execute, ack, await task

    execute, ack, items = with_runs(tmp_path, body)
    assert execute["code"] == "x"
    assert ack["seq"] == 3
    assert [i.kind for i in items[:-1]] == ["started", "output"]
    assert items[-1] == RunResult(run_id="r1", status="finished", exit_code=7)


def test_what_is_sent_again_after_a_reconnection_is_told_once(tmp_path):
    async def body(runs):
        peer = await Peer.connect(tmp_path)
        task = asyncio.ensure_future(collect(runs))
        await peer.read_until("execute")
        peer.send(output(1, "a"))
        peer.send(output(2, "b"))
        peer.raw(b"nonsense, so that the link drops the connection after it has read both")
        await peer.closed()
        again = await Peer.connect(tmp_path)
        hello = await again.read_until("hello")
        for message in (output(1, "a"), output(2, "b"), output(3, "c"), finished(4)):
            again.send(message)
        return hello, await task

    hello, items = with_runs(tmp_path, body)
    assert hello["acked"] == 2
    assert "".join(i.text for i in items if isinstance(i, OutputItem)) == "abc"


def test_credit_is_given_only_as_output_is_taken(tmp_path):
    async def body(runs):
        peer = await Peer.connect(tmp_path)
        credit = (await peer.read_until("credit"))["bytes"]
        stream = runs.execute(ExecuteCode(kernel_id="k", run_id="r1", code="x"))
        first = asyncio.ensure_future(anext(stream))
        await peer.read_until("execute")
        sent = 0
        while sent < credit:
            sent += 65536
            peer.send(output(sent // 65536, "x" * 65536))
        await peer.writer.drain()
        await first
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await peer.read_until("credit")
        taken = 65536
        while taken < credit // 2:
            taken += len((await anext(stream)).text)
        more = (await peer.read_until("credit"))["bytes"]
        await stream.aclose()
        return credit, more

    credit, more = with_runs(tmp_path, body)
    assert credit == WINDOW
    assert 0 < more <= WINDOW


@pytest.mark.parametrize(
    "attack",
    [
        b"not json",
        b"[]",
        b"[" * 100_000,
        json.dumps({"type": "output", "seq": "1", "run_id": "r", "stream": "stdout"}).encode(),
        json.dumps(finished(1, status="splendid")).encode(),
        json.dumps({**output(1, "x"), "stream": "stdlog"}).encode(),
        json.dumps({**output(1, "x"), "run_id": "r" * 65}).encode(),
        json.dumps({"type": "step-finished", "seq": 1, "run_id": "r", "step": "x"}).encode(),
        json.dumps({"type": "completions", "seq": 1, "run_id": "r", "matches": [1]}).encode(),
    ],
)
def test_a_malformed_message_drops_the_connection_and_an_honest_one_follows(tmp_path, attack):
    async def body(runs):
        peer = await Peer.connect(tmp_path)
        await peer.read_until("credit")
        peer.raw(attack)
        assert await peer.closed()
        honest = await Peer.connect(tmp_path)
        return await honest.read_until("hello")

    assert with_runs(tmp_path, body)["protocol"] == 1


def test_a_frame_too_long_is_refused_before_it_is_read(tmp_path):
    async def body(runs):
        peer = await Peer.connect(tmp_path)
        await peer.read_until("credit")
        peer.writer.write((MAX_FRAME + 1).to_bytes(4, "big"))
        return await peer.closed()

    assert with_runs(tmp_path, body)


def test_output_beyond_the_credit_drops_the_connection(tmp_path):
    async def body(runs):
        peer = await Peer.connect(tmp_path)
        task = asyncio.ensure_future(
            anext(runs.execute(ExecuteCode(kernel_id="k", run_id="r1", code="")))
        )
        await peer.read_until("execute")
        for seq in range(1, 5):
            peer.send(output(seq, "x" * (MAX_FRAME - 1000)))
        closed = await peer.closed()
        await task
        return closed

    assert with_runs(tmp_path, body)


@pytest.mark.parametrize(("kernel_id", "incarnation"), [("other", 1), ("k", 2)])
def test_a_runner_of_another_kernel_is_turned_away(tmp_path, kernel_id, incarnation):
    async def body(runs):
        peer = await Peer.connect(tmp_path, kernel_id, incarnation)
        return await peer.closed(), runs.link.connected

    assert with_runs(tmp_path, body) == (True, False)


def test_a_second_runner_is_turned_away_while_the_first_is_there(tmp_path):
    async def body(runs):
        first = await Peer.connect(tmp_path)
        await first.read_until("credit")
        second = await Peer.connect(tmp_path)
        return await second.closed(), runs.link.connected

    assert with_runs(tmp_path, body) == (True, True)


def test_abandoning_a_run_interrupts_it(tmp_path):
    async def body(runs):
        peer = await Peer.connect(tmp_path)
        stream = runs.execute(ExecuteCode(kernel_id="k", run_id="r1", code=""))
        first = asyncio.ensure_future(anext(stream))
        await peer.read_until("execute")
        peer.send(output(1, "x"))
        await first
        await stream.aclose()
        return await peer.read_until("interrupt"), await peer.read_until("cancel")

    interrupt, cancel = with_runs(tmp_path, body)
    assert interrupt["run_id"] == cancel["run_id"] == "r1"


def test_two_runs_of_one_id_conflict(tmp_path):
    async def body(runs):
        peer = await Peer.connect(tmp_path)
        task = asyncio.ensure_future(collect(runs))
        await peer.read_until("execute")
        with pytest.raises(Conflict):
            await collect(runs)
        peer.send(finished(1))
        return await task

    assert len(with_runs(tmp_path, body)) == 1


def test_the_end_of_the_kernel_ends_its_runs(tmp_path):
    async def body(runs):
        peer = await Peer.connect(tmp_path)
        task = asyncio.ensure_future(collect(runs))
        await peer.read_until("execute")
        await runs.close()
        with pytest.raises(KernelFailed):
            await task
        return await peer.closed()

    assert with_runs(tmp_path, body)


@pytest.mark.parametrize(
    ("stream", "known", "again"),
    [("a", [], True), ("a", ["r1"], False), ("b", ["r1"], False)],
)
def test_a_run_that_the_runner_never_received_is_sent_again(tmp_path, stream, known, again):
    async def body(runs):
        peer = await Peer.connect(tmp_path, stream="a")
        task = asyncio.ensure_future(collect(runs))
        await peer.read_until("execute")
        peer.raw(b"nonsense, so that the link drops the connection")
        await peer.closed()
        back = await Peer.connect(tmp_path, stream=stream, runs=known)
        first = [(await back.read())["type"] for _ in range(3 if again else 2)]
        back.send(finished(1))
        return first, await task

    first, items = with_runs(tmp_path, body)
    assert ("execute" in first) is again
    assert items[-1].status == "finished"


def test_a_run_that_was_lost_with_its_runner_is_not_run_twice(tmp_path):
    async def body(runs):
        peer = await Peer.connect(tmp_path, stream="a")
        task = asyncio.ensure_future(collect(runs))
        await peer.read_until("execute")
        peer.raw(b"nonsense, so that the link drops the connection")
        await peer.closed()
        await Peer.connect(tmp_path, stream="b")
        return await task

    assert with_runs(tmp_path, body) == [RunResult(run_id="r1", status="lost", exit_code=None)]


def test_runs_go_on_when_their_callers_go_with_the_agent(tmp_path):
    async def body(runs):
        peer = await Peer.connect(tmp_path)
        stream = runs.execute(ExecuteCode(kernel_id="k", run_id="r1", code=""))
        first = asyncio.ensure_future(anext(stream))
        await peer.read_until("execute")
        peer.send(output(1, "x"))
        await first
        runs.detach()
        await stream.aclose()
        await runs.close()
        told = []
        with contextlib.suppress(asyncio.IncompleteReadError):
            while True:
                told.append((await peer.read())["type"])
        return told

    assert with_runs(tmp_path, body) == []


def test_without_a_name_the_oldest_run_is_interrupted(tmp_path):
    async def body(runs):
        peer = await Peer.connect(tmp_path)
        tasks = [asyncio.ensure_future(collect(runs, run_id=name)) for name in ("r1", "r2")]
        for _ in tasks:
            await peer.read_until("execute")
        await runs.interrupt(None)
        interrupt = await peer.read_until("interrupt")
        peer.send(finished(1, "r1", "interrupted", 130))
        peer.send(finished(2, "r2"))
        await asyncio.gather(*tasks)
        return interrupt["run_id"]

    assert with_runs(tmp_path, body) == "r1"


def test_a_run_without_a_runner_is_refused_in_time(tmp_path, monkeypatch):
    monkeypatch.setattr(runs_module, "_RECONNECT_DEADLINE", 0.1)

    async def body(runs):
        with pytest.raises(RunnerUnavailable, match="did not connect within"):
            await collect(runs)
        return True

    assert with_runs(tmp_path, body)


def test_a_socket_path_that_is_too_long_is_refused_with_a_way_out(tmp_path):
    async def body():
        with pytest.raises(InvalidConfig) as caught:
            await Runs("k", 1, tmp_path / ("x" * 100)).link.open()
        return caught.value.hint

    assert "ipc-base-path" in asyncio.run(body())


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)
KINDS = [
    "started",
    "output",
    "truncated",
    "waiting-input",
    "step-finished",
    "completions",
    "finished",
]
FIELDS = [
    "seq",
    "run_id",
    "stream",
    "text",
    "bytes",
    "prompt",
    "step",
    "exit_code",
    "matches",
    "status",
]


# The first text that hypothesis draws on a machine takes it a second.
@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.sampled_from([*KINDS, "hello", "x"]), st.dictionaries(st.sampled_from(FIELDS), json_values)
)
def test_no_message_whatever_gets_past_the_checks(kind, fields):
    message = {**fields, "type": kind}
    for read in (read_hello, read_report):
        try:
            result = read(message)
        except MalformedFrame:
            continue
        assert result is None or result.seq == fields["seq"]


def test_a_runner_that_does_not_read_cannot_keep_its_link_open(tmp_path):
    async def body(runs):
        peer = await Peer.connect(tmp_path)
        await runs.link.wait_connected(5)
        peer.writer.transport.pause_reading()
        message = {"type": "input", "run_id": "r", "text": "x" * 100_000}
        for _ in range(20):  # more than the sockets' own buffers hold
            runs.link.send(message)
        assert runs.link._writer.transport.get_write_buffer_size() > 0
        await runs.close()
        return runs.link.connected

    assert with_runs(tmp_path, body) is False
