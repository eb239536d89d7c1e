"""Whatever clients say in whatever order, each request ends once and the server stays whole."""

import asyncio
import logging
from collections import defaultdict
from contextlib import AsyncExitStack

import msgpack
import pytest
import zmq
import zmq.asyncio
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from agent_core.server.rpc import Limits
from agent_core.wire import frames
from agent_core.wire.frames import End, Error, Item, Reply

NAMES = ("one", "two")
KERNEL = {"kernel_id": "k1"}
CALLS = [
    ("ping", {"text": "hello"}),
    ("ping", {"text": 5}),
    ("ping", {"unknown": 1}),
    ("pong", {}),
    ("get_plugin", {"name": "broken"}),
    ("get_plugin", {"name": "exit"}),
    ("list_leaks", {}),
    ("list_kernels", {"all": True}),
    ("wait_kernel", {**KERNEL, "states": ["RUNNING"]}),
    ("create_kernel", {"spec": {"kernel_id": "k2", "slow": True}}),
    ("create_kernel", {"spec": {}}),
    ("destroy_kernel", KERNEL),
    ("restart_kernel", KERNEL),
    ("create_session", {"kernels": [{}, {}]}),
    ("destroy_session", {"session_id": "s1"}),
    ("execute_code", {**KERNEL, "run_id": "r", "code": "1"}),
    ("get_logs", {**KERNEL, "follow": True}),
    ("get_logs", KERNEL),
    ("watch_events", {"follow": True}),
    ("send_input", {**KERNEL, "run_id": "r", "text": "x"}),
]
SESSIONS = {"create_session", "destroy_session"}
GOES_ON = {"create_kernel", "destroy_kernel", "restart_kernel", "send_input"} | SESSIONS
BY_FRAMES = {"malformed-frame", "protocol-mismatch"}

names = st.sampled_from(NAMES)
ids = st.integers(1, 12)
amounts = st.sampled_from([0, 1, 8000, 20_000, 200_000, frames.MAX_CREDIT])
timeouts = st.none() | st.sampled_from([1e-6, 0.002, 60.0, 1e300])
anything = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 1 << 63) | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
kinds = st.sampled_from(["request", "reply", "item", "end", "error", "cancel", "credit", "?"])
garbage = (
    st.binary(max_size=60)
    | anything.map(msgpack.packb)
    | st.tuples(st.sampled_from([1, 2, True]), kinds, ids | anything, anything).map(msgpack.packb)
    | st.tuples(st.just(1), kinds, ids, st.just("ping"), anything, anything, anything).map(
        msgpack.packb
    )
)


class Talker:
    """One client: what it said and what it was told."""

    def __init__(self, path):
        self.context = zmq.asyncio.Context()
        self.socket = self.context.socket(zmq.DEALER)
        self.socket.linger = 0
        self.socket.connect(f"ipc://{path}")
        self.marks = iter(range(1 << 40, 1 << 50))
        self.granted = defaultdict(int)
        self.items = defaultdict(int)
        self.largest = 0
        self.endings = defaultdict(list)

    async def say(self, *parts):
        await self.socket.send_multipart(parts)

    async def is_answered(self):
        """Ask for a ping, and note all that comes before its answer."""
        mark = next(self.marks)
        await self.say(frames.encode_request(frames.Request(mark, "ping", {})))
        async with asyncio.timeout(5):
            while self.note(await self.socket.recv()) != frames.Reply(mark, {"text": ""}):
                pass

    def note(self, data):
        frame = frames.decode(data)
        if isinstance(frame, Item):
            assert not self.endings[frame.id], "an item after the end"
            self.items[frame.id] += len(data)
            self.largest = max(self.largest, len(data))
        elif isinstance(frame, Reply | End) and frame.id < 1 << 40:
            self.endings[frame.id].append("answered")
        elif isinstance(frame, Error) and frame.error["code"] not in BY_FRAMES:
            self.endings[frame.id].append(frame.error["code"])
        return frame

    def leave(self):
        self.socket.close()
        self.context.term()


class Conversation(RuleBasedStateMachine):
    """Two clients and a server on one loop; a rule is what one of them says next."""

    def __init__(self, serve):
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.stack = AsyncExitStack()
        self.serve = serve
        self.talkers = {}

    def do(self, coroutine):
        return self.loop.run_until_complete(coroutine)

    @initialize()
    def begin(self):
        limits = Limits(sweep_interval=0.01)
        self.agent = self.do(self.stack.enter_async_context(self.serve(limits=limits)))
        self.talkers = {name: Talker(self.agent.path) for name in NAMES}

    @rule(name=names, id_=ids, call=st.sampled_from(CALLS), timeout=timeouts, credit=amounts)
    def request(self, name, id_, call, timeout, credit):
        talker = self.talkers[name]
        request = frames.Request(id_, *call, timeout, credit)
        talker.granted[id_] += credit
        self.do(talker.say(frames.encode_request(request)))

    @rule(name=names, id_=ids)
    def cancel(self, name, id_):
        self.do(self.talkers[name].say(frames.encode_cancel(id_)))

    @rule(name=names, id_=ids, amount=amounts)
    def credit(self, name, id_, amount):
        self.talkers[name].granted[id_] += amount
        self.do(self.talkers[name].say(frames.encode_credit(id_, amount)))

    @rule(name=names, data=garbage)
    def talk_nonsense(self, name, data):
        frame = outcome(data)
        if isinstance(frame, frames.Request | frames.Credit):
            talker = self.talkers[name]
            talker.granted[frame.id] += getattr(frame, "credit", getattr(frame, "amount", 0))
        self.do(self.talkers[name].say(data))

    @rule(name=names, data=garbage)
    def talk_in_several_parts(self, name, data):
        self.do(self.talkers[name].say(data, b"", data))

    @rule(name=names)
    def vanish(self, name):
        self.talkers[name].leave()
        self.talkers[name] = Talker(self.agent.path)

    @rule()
    def wait(self):
        self.do(asyncio.sleep(0.003))

    @invariant()
    def everybody_is_answered(self):
        for talker in self.talkers.values():
            self.do(talker.is_answered())

    @invariant()
    def every_request_ends_at_most_once(self):
        for talker in self.talkers.values():
            for id_, endings in talker.endings.items():
                assert len(endings) <= 1, (id_, endings)

    @invariant()
    def no_stream_exceeds_its_credit(self):
        for talker in self.talkers.values():
            for id_, size in talker.items.items():
                assert size <= talker.granted[id_] + talker.largest

    @invariant()
    @precondition(lambda self: self.talkers)
    def what_is_in_flight_is_bounded(self):
        # Of clients that vanished, only what goes on for itself may be left for long.
        assert self.agent.server.in_flight <= 12 * 20

    def teardown(self):
        try:
            for talker in self.talkers.values():
                talker.leave()
            if self.talkers:
                self.do(self.all_ends())
            # The fixture checks that no task is left.
            self.do(self.stack.aclose())
        finally:
            self.do(self.loop.shutdown_asyncgens())
            self.loop.close()

    async def all_ends(self):
        """Without clients only what goes on is in flight, and nothing once that is done."""
        server = self.agent.server
        async with asyncio.timeout(5):
            while any(call.method.name not in GOES_ON for call in server._calls):  # noqa: ASYNC110
                await asyncio.sleep(0.005)
            self.agent.services.release.set()
            while server.in_flight:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        assert server.counters.backlog == 0
        async with self.agent.client() as client:
            assert await client.ping("still") == "still"


def outcome(data):
    """What a server makes of these bytes, or None."""
    try:
        return frames.decode(data)
    except frames.AgentError:
        return None


@pytest.mark.timeout(60)
def test_any_conversation_ends_with_every_request_answered_once_and_nothing_in_flight(
    agent, caplog
):
    caplog.set_level(logging.CRITICAL)
    run_state_machine_as_test(
        lambda: Conversation(agent),
        settings=settings(
            max_examples=40,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
