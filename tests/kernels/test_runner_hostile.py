"""Code that speaks in the place of its runner: it costs its kernel the connection, and no more."""

# A test waits for what no event tells: that the link reads no more.
# ruff: noqa: ASYNC110

import asyncio
import contextlib
import errno
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent_core.contracts.runner import MAX_FRAME
from agent_core.kernels.runner import door, link, runs, waiting
from agent_core.kernels.runner.allowance import BURST, RATE, Allowance
from agent_core.wire.models import RunResult
from agent_core.wire.params import ExecuteCode

from .peers import Peer, collect, finished, knock, output, with_runs


def started(seq, run_id="r1"):
    return {"type": "started", "seq": seq, "run_id": run_id}


def prompt(seq, text="?", run_id="r1"):
    return {"type": "waiting-input", "seq": seq, "run_id": run_id, "prompt": text}


def descriptors():
    return len([*Path("/proc/self/fd").iterdir()])


# ---- connections ---------------------------------------------------------------------------------


def test_a_flood_of_half_open_connections_takes_few_descriptors_and_the_runner_gets_in(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(link, "_HELLO_DEADLINE", 0.2)

    async def body(runs):
        before = descriptors()
        flood = []
        for _ in range(500):
            with contextlib.suppress(BlockingIOError):
                flood.append(knock(tmp_path / "runner.sock"))
            await asyncio.sleep(0)
        taken = descriptors() - before - len(flood)
        peer = await _patiently(tmp_path)
        greeted = await peer.read_until("hello")
        for knocking in flood:
            knocking.close()
        return taken, greeted, runs.link.offences

    taken, greeted, offences = with_runs(tmp_path, body)
    assert taken <= door.PEERS
    assert greeted["protocol"] == 1
    assert offences > 0


async def _patiently(tmp_path):
    """Connect as the runner does: a full backlog refuses at once, and it tries again."""
    while True:
        with contextlib.suppress(BlockingIOError):
            return await Peer.connect(tmp_path)
        await asyncio.sleep(0.01)


def test_what_is_not_a_hello_is_counted_and_the_log_is_not_flooded(tmp_path, monkeypatch):
    monkeypatch.setattr(door, "_PAUSE", 0.0)
    said = []
    monkeypatch.setattr(link.log, "warning", lambda event, **data: said.append(data["times"]))

    async def body(runs):
        for _ in range(30):
            peer = await Peer.connect(tmp_path, greet=False)
            peer.raw(b'{"type":"hullo"}')
            await peer.closed()
        return runs.link.offences, runs.link.offence

    assert with_runs(tmp_path, body) == (30, "the runner did not greet with protocol 1")
    assert said == [1, 10]


def test_a_place_that_a_stranger_had_stays_empty_for_a_moment(tmp_path, monkeypatch):
    pauses = []
    sleep = asyncio.sleep

    async def noted(seconds):
        pauses.append(seconds)
        await sleep(0)

    monkeypatch.setattr(door.asyncio, "sleep", noted)

    async def body(runs):
        peer = await Peer.connect(tmp_path, "other")
        return await peer.closed()

    assert with_runs(tmp_path, body)
    assert door._PAUSE in pauses


class OutOfDescriptors:
    """A listener that cannot accept at first."""

    def __init__(self, listener):
        self._listener, self.refused = listener, 0

    def accept(self):
        if not self.refused:
            self.refused += 1
            raise OSError(errno.EMFILE, "Too many open files")
        return self._listener.accept()

    def __getattr__(self, name):
        return getattr(self._listener, name)


def test_whoever_knocks_while_the_agent_has_no_descriptor_left_is_let_in_later(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(door, "_NO_DESCRIPTOR", 0.01)

    async def body(runs):
        poor = runs.link._door._listener = OutOfDescriptors(runs.link._door._listener)
        peer = await Peer.connect(tmp_path)
        return (await peer.read_until("hello"))["type"], poor.refused

    assert with_runs(tmp_path, body) == ("hello", 1)


def test_a_directory_in_the_place_of_the_socket_is_an_error_that_names_it(tmp_path):
    async def main():
        (tmp_path / "runner.sock" / "x").mkdir(parents=True)
        with pytest.raises(OSError, match=r"runner\.sock"):
            await runs.Runs("k", 1, tmp_path).link.open()

    asyncio.run(main())


# ---- frames --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "attack",
    [
        pytest.param(bytes(4), id="no bytes"),
        pytest.param(b"\xff\xff\xff\xff", id="4 GiB announced"),
        pytest.param(b"\x00\x00\x00\x04\xff\xfe\xfd\xfc", id="not UTF-8"),
        pytest.param(b"\x00\x00\x20\x00" + b"9" * 8192, id="a number without end"),
        pytest.param(b"\x00\x01\x00\x00" + b"[" * 65536, id="nested without end"),
        pytest.param(b"\x00\x00\x00\x02[]", id="a list"),
    ],
)
def test_a_frame_that_is_none_costs_the_connection(tmp_path, attack):
    async def body(runs):
        peer = await Peer.connect(tmp_path)
        await peer.read_until("credit")
        peer.writer.write(attack)
        return await peer.closed(), runs.link.offences

    assert with_runs(tmp_path, body) == (True, 1)


@pytest.mark.parametrize(
    "junk",
    [
        [[] for _ in range(100_000)],
        {str(n): {} for n in range(50_000)},
        [0] * 200_000,
        ["x"] * 90_000,
    ],
    ids=["lists", "objects", "numbers", "texts"],
)
def test_a_long_frame_of_many_small_things_is_refused_before_it_is_read(tmp_path, junk):
    async def body(runs):
        peer = await Peer.connect(tmp_path)
        await peer.read_until("credit")
        peer.send({**started(1), "junk": junk})
        await peer.closed()
        return runs.link.offence

    assert "in too many parts" in with_runs(tmp_path, body)


@pytest.mark.parametrize("text", ["x" * 900_000, '"[{\\' * 100_000, "\x01é💥" * 30_000])
def test_a_long_frame_of_text_is_read_whatever_the_text(tmp_path, text):
    async def body(runs):
        peer = await Peer.connect(tmp_path)
        task = asyncio.ensure_future(collect(runs))
        await peer.read_until("execute")
        peer.send(output(1, text))
        peer.send(finished(2))
        return (await task)[0].text

    assert with_runs(tmp_path, body) == text


def test_half_a_frame_holds_its_own_connection_and_no_other(tmp_path):
    async def body(runs):
        slow = await Peer.connect(tmp_path, greet=False)
        slow.writer.write(b"\x00\x00\x01")
        peer = await Peer.connect(tmp_path)
        task = asyncio.ensure_future(collect(runs))
        await peer.read_until("execute")
        peer.send(finished(1))
        return await task

    assert with_runs(tmp_path, body)[-1].status == "finished"


# ---- messages ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "attack",
    [
        {**finished(1), "status": []},
        {**finished(1), "exit_code": 1 << 60},
        {**finished(1), "exit_code": True},
        {**output(1, "x"), "stream": {}},
        {**output(1, "x"), "seq": 1 << 64},
        {**output(1, "x"), "seq": 1.5},
        {**output(1, "x"), "text": None},
        {"type": "truncated", "seq": 1, "run_id": "r1", "bytes": -1},
        {**prompt(1), "prompt": "x" * (65 << 10)},
    ],
    ids=repr,
)
def test_a_field_of_the_wrong_kind_costs_the_connection(tmp_path, attack):
    async def body(runs):
        peer = await Peer.connect(tmp_path)
        await peer.read_until("credit")
        peer.send(attack)
        return await peer.closed(), runs.link.offences

    assert with_runs(tmp_path, body) == (True, 1)


@pytest.mark.parametrize(
    ("words", "next_seq"),
    [
        ([{"type": "ack", "seq": 99}, {"type": "credit", "bytes": -5}, {"type": "splendid"}], 1),
        ([finished(1, "nobody's"), output(2, "x", "nobody's"), finished(3, "nobody's")], 4),
        ([output(1, "a"), output(1, "a"), output(0, "a"), output(-7, "a")], 2),
    ],
    ids=["unknown types", "unknown runs", "old numbers"],
)
def test_what_means_nothing_is_passed_over(tmp_path, words, next_seq):
    async def body(runs):
        peer = await Peer.connect(tmp_path)
        task = asyncio.ensure_future(collect(runs))
        await peer.read_until("execute")
        for message in words:
            peer.send(message)
        peer.send(finished(next_seq))
        return (await task)[-1], runs.link.offences

    assert with_runs(tmp_path, body) == (RunResult(run_id="r1", status="finished", exit_code=0), 0)


def test_a_number_that_jumps_ahead_costs_the_connection(tmp_path):
    async def body(runs):
        peer = await Peer.connect(tmp_path)
        await peer.read_until("credit")
        peer.send(started(1))
        peer.send(started(3))
        await peer.closed()
        return runs.link.offence

    assert with_runs(tmp_path, body) == "number 3 after 1"


def test_a_run_that_finishes_twice_has_one_result_and_nothing_after_it(tmp_path):
    async def body(runs):
        peer = await Peer.connect(tmp_path)
        task = asyncio.ensure_future(collect(runs))
        await peer.read_until("execute")
        for message in (finished(1), output(2, "late"), finished(3, code=9)):
            peer.send(message)
        return await task

    assert with_runs(tmp_path, body) == [RunResult(run_id="r1", status="finished", exit_code=0)]


def test_completions_do_not_end_a_run(tmp_path):
    async def body(runs):
        peer = await Peer.connect(tmp_path)
        task = asyncio.ensure_future(collect(runs))
        await peer.read_until("execute")
        peer.send({"type": "completions", "seq": 1, "run_id": "r1", "matches": ["x"]})
        peer.send(finished(2))
        return await task

    assert with_runs(tmp_path, body)[-1].status == "finished"


# ---- memory and time -----------------------------------------------------------------------------


def test_a_stream_of_prompts_waits_until_its_caller_reads(tmp_path):
    """Nothing of it costs credit, so only the agent's own bound keeps it out of memory."""
    total = 90

    async def body(runs):
        peer = await Peer.connect(tmp_path)
        stream = runs.execute(ExecuteCode(kernel_id="k", run_id="r1", code="x"))
        first = asyncio.ensure_future(anext(stream))
        await peer.read_until("execute")
        sending = asyncio.ensure_future(_send_all(peer, total))
        await first
        while runs.link._room.is_set():
            await asyncio.sleep(0)
        queued = runs._runs["r1"].queue.qsize()
        rest = [item async for item in stream]
        await sending
        return queued, rest, runs.link.offences

    queued, rest, offences = with_runs(tmp_path, body)
    assert queued <= link.HELD // (64 << 10) + 1
    assert len(rest) == total
    assert rest[-1].status == "finished"
    assert offences == 0


async def _send_all(peer, total):
    for seq in range(1, total + 1):
        peer.send(prompt(seq, "x" * (64 << 10)))
        await peer.writer.drain()
    peer.send(finished(total + 1))


def test_a_stream_of_single_characters_is_bounded_too(tmp_path):
    async def body(runs):
        peer = await Peer.connect(tmp_path)
        stream = runs.execute(ExecuteCode(kernel_id="k", run_id="r1", code="x"))
        first = asyncio.ensure_future(anext(stream))
        await peer.read_until("execute")
        for seq in range(1, 20_000):
            peer.send(output(seq, "x"))
        await first
        while runs.link._room.is_set():
            await asyncio.sleep(0)
        queued = runs._runs["r1"].queue.qsize()
        await stream.aclose()
        return queued, runs.link._held

    queued, held = with_runs(tmp_path, body)
    assert queued <= link.HELD // 1024 + 1
    assert held == 0


def test_output_that_exceeds_its_credit_does_not_use_up_the_next_one(tmp_path):
    async def body(runs):
        peer = await Peer.connect(tmp_path)
        stream = runs.execute(ExecuteCode(kernel_id="k", run_id="r1", code="x"))
        first = asyncio.ensure_future(anext(stream))
        await peer.read_until("execute")
        for seq in range(1, 5):
            peer.send(output(seq, "x" * (MAX_FRAME - 1000)))
        await peer.closed()
        await first
        await stream.aclose()
        again = await Peer.connect(tmp_path)
        return (await again.read_until("credit"))["bytes"]

    assert with_runs(tmp_path, body) == link.WINDOW


@given(st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(0, 1 << 20), st.floats(0, 2))))
def test_what_is_not_paid_for_never_comes_faster_than_its_rate(frames):
    allowance, now, unpaid = Allowance(0.0), 0.0, 0
    for size, cost, gap in frames:
        now += gap
        now += allowance.pause(size, cost, now)
        unpaid += max(0, size + 100 - 12 * cost)
        assert unpaid <= BURST + RATE * now + 1


def test_a_flood_that_means_nothing_makes_its_sender_wait(tmp_path, monkeypatch):
    pauses = []
    monkeypatch.setattr(link, "Allowance", lambda now: _Counting(now, pauses))

    async def body(runs):
        peer = await Peer.connect(tmp_path)
        await peer.read_until("credit")
        for _ in range(100):
            peer.send({"type": "splendid", "text": "x" * (64 << 10)})
            await peer.writer.drain()
        while not any(pauses):
            await asyncio.sleep(0)
        return runs.link.offences

    assert with_runs(tmp_path, body) == 0


class _Counting(Allowance):
    def __init__(self, now, pauses):
        super().__init__(now)
        self._pauses = pauses

    def pause(self, size, cost, now):
        self._pauses.append(super().pause(size, cost, now))
        return 0.0


# ---- a runner that does not end what it runs -----------------------------------------------------


@pytest.mark.parametrize("says", [True, False], ids=["after started", "without a word"])
def test_a_run_with_a_timeout_ends_for_its_caller_though_the_runner_is_stopped(
    tmp_path, monkeypatch, says
):
    monkeypatch.setattr(waiting, "OVERRUN", 0.05)

    async def body(runs):
        peer = await Peer.connect(tmp_path)
        task = asyncio.ensure_future(collect(runs, timeout=0.05))
        await peer.read_until("execute")
        if says:
            peer.send(started(1))
        items = await task
        return items[-1], (await peer.read_until("interrupt"))["run_id"]

    result, interrupted = with_runs(tmp_path, body)
    assert result == RunResult(run_id="r1", status="exec-timeout", exit_code=None)
    assert interrupted == "r1"


def test_the_time_of_a_run_begins_when_nothing_is_before_it(tmp_path, monkeypatch):
    monkeypatch.setattr(waiting, "OVERRUN", 0.05)

    async def body(runs):
        peer = await Peer.connect(tmp_path, runs=["of an agent before"])
        first = asyncio.ensure_future(collect(runs, run_id="r1"))
        await peer.read_until("execute")
        second = asyncio.ensure_future(collect(runs, run_id="r2", timeout=0.01))
        await peer.read_until("execute")
        peer.send(finished(1, "of an agent before"))
        peer.send(started(2, "r1"))
        await peer.writer.drain()
        idle = runs._runs["r2"]._timer
        peer.send(finished(3, "r1"))
        await first
        return idle, (await second)[-1].status

    assert with_runs(tmp_path, body) == (None, "exec-timeout")


def test_a_caller_that_is_behind_has_time_to_read_the_rest(tmp_path, monkeypatch):
    monkeypatch.setattr(waiting, "OVERRUN", 0.02)

    async def body(runs):
        peer = await Peer.connect(tmp_path)
        params = ExecuteCode(kernel_id="k", run_id="r1", code="x", timeout=0.01)
        stream = runs.execute(params)
        first = asyncio.ensure_future(anext(stream))
        await peer.read_until("execute")
        for message in (started(1), output(2, "a"), output(3, "b")):
            peer.send(message)
        await first
        while runs._runs["r1"]._looks < 3:  # the timeout is long over
            await asyncio.sleep(0.01)
        peer.send(finished(4, code=3))
        await peer.read_until("ack")
        return [item async for item in stream][-1]

    assert with_runs(tmp_path, body).exit_code == 3


def test_completions_that_never_come_are_none(tmp_path, monkeypatch):
    monkeypatch.setattr(waiting, "OVERRUN", 0.01)
    monkeypatch.setattr(runs, "_COMPLETION_DEADLINE", 0.01)

    async def body(under_test):
        await Peer.connect(tmp_path)
        return await under_test.complete("c1", "x.", 2)

    assert with_runs(tmp_path, body) == []


# ---- anything at all -----------------------------------------------------------------------------

SEQS = st.integers(-2, 6) | st.sampled_from([1 << 53, 1 << 64, -(1 << 70)])
NAMES = st.sampled_from(["r1", "r2", "other", "", "x" * 70])
SENSIBLE = st.one_of(
    st.builds(started, SEQS, NAMES),
    st.builds(output, SEQS, st.text(max_size=8), NAMES),
    st.builds(prompt, SEQS, st.text(max_size=8), NAMES),
    st.builds(
        finished, SEQS, NAMES, st.sampled_from(["finished", "lost", "?"]), st.integers(-2, 2)
    ),
    st.fixed_dictionaries(
        {
            "type": st.just("completions"),
            "seq": SEQS,
            "run_id": NAMES,
            "matches": st.lists(st.text(max_size=3), max_size=2),
        }
    ),
    st.fixed_dictionaries(
        {
            "type": st.sampled_from(["ack", "credit", "hello", "execute", ""]),
            "seq": SEQS,
            "bytes": SEQS,
        }
    ),
)
FRAMES = st.one_of(
    SENSIBLE.map(lambda message: json.dumps(message).encode()),
    SENSIBLE.map(lambda message: json.dumps(message).encode()[:-1]),
    st.binary(max_size=20),
)
STEPS = st.lists(st.one_of(FRAMES, st.just("hang up"), st.just("again")), max_size=12)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(STEPS)
def test_no_conversation_whatever_gets_an_exception_out_of_the_link(tmp_path_factory, steps):
    tmp_path, errors = tmp_path_factory.mktemp("l"), []

    async def body(under_test):
        asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context))
        task = asyncio.ensure_future(collect(under_test))
        peer = await Peer.connect(tmp_path)
        for step in steps:
            if isinstance(step, str):
                peer.writer.close()
                peer = await Peer.connect(tmp_path, stream=step)
            else:
                peer.raw(step)
        peer.writer.close()
        honest = await _until_greeted(tmp_path)
        done, _ = await asyncio.wait({task}, timeout=0)
        if not done:
            honest.send(finished(under_test.link._received + 1))
        items = await task
        return items[-1], under_test.link._held, under_test.link._credit_used

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(door, "_PAUSE", 0.0)
        patch.setattr(link.log, "exception", lambda *_, **data: errors.append(data))
        last, held, used = with_runs(tmp_path, body)
    assert isinstance(last, RunResult)
    assert (held, used, errors) == (0, 0, [])


async def _until_greeted(tmp_path):
    """Connect again and again, as a runner does while the agent still has an earlier connection."""
    while True:
        peer = await Peer.connect(tmp_path, stream="again", runs=["r1"])
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            await peer.read_until("hello")
            return peer
