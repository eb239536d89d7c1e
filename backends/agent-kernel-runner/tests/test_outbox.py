"""The outbox: order, numbers, credit, bounds, and nothing lost that was not counted."""

import json

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from agent_kernel_runner.daemon.outbox import OUTPUT_BOUND, OUTPUT_CHUNK, Outbox, pieces


def sent(outbox):
    """Everything that may be sent now."""
    frames = iter(outbox.next_frame, None)
    return [json.loads(frame[4:]) for frame in frames]


def test_nothing_is_sent_before_the_agent_says_hello():
    outbox = Outbox()
    outbox.add("started", run_id="r")
    assert outbox.next_frame() is None


def test_output_waits_for_credit_and_what_follows_it_keeps_its_place():
    outbox = Outbox()
    outbox.connect(0)
    outbox.add("started", run_id="r")
    outbox.add_output("r", "stdout", "four")
    outbox.add("finished", run_id="r")
    assert [message["type"] for message in sent(outbox)] == ["started"]
    outbox.give(4)
    assert [message["type"] for message in sent(outbox)] == ["output", "finished"]


def test_what_is_not_acknowledged_is_sent_again_with_its_numbers():
    outbox = Outbox()
    outbox.connect(0)
    for number in range(5):
        outbox.add("step-finished", step=str(number))
    first = sent(outbox)
    outbox.ack(2)
    outbox.disconnect()
    outbox.connect(3)
    assert sent(outbox) == first[3:]


def test_numbers_go_on_after_those_of_an_earlier_process():
    outbox = Outbox()
    outbox.add("started", run_id="r")
    outbox.connect(41)
    outbox.add("finished", run_id="r")
    assert [message["seq"] for message in sent(outbox)] == [42, 43]
    outbox.disconnect()
    outbox.connect(42)
    assert [message["seq"] for message in sent(outbox)] == [43]


def test_output_beyond_the_bound_is_counted_while_nobody_listens():
    outbox = Outbox()
    block = "x" * OUTPUT_CHUNK
    for _ in range(2 * OUTPUT_BOUND // OUTPUT_CHUNK):
        outbox.add_output("r", "stdout", block)
    outbox.connect(0)
    outbox.give(4 * OUTPUT_BOUND)
    messages = sent(outbox)
    kept = sum(len(message.get("text", "")) for message in messages)
    assert 0.9 * OUTPUT_BOUND < kept <= OUTPUT_BOUND
    assert [message["type"] for message in messages].count("truncated") == 1
    assert messages[-1] == {
        "type": "truncated",
        "run_id": "r",
        "bytes": 2 * OUTPUT_BOUND - kept,
        "seq": len(messages),
    }


def test_single_characters_become_few_messages():
    outbox = Outbox()
    for _ in range(1000):
        outbox.add_output("r", "stdout", "x")
    outbox.connect(0)
    outbox.give(1000)
    assert [message["text"] for message in sent(outbox)] == ["x" * 1000]


@given(st.text(), st.integers(4, 9))
def test_pieces_are_short_and_whole_characters(text, limit):
    cut = pieces(text, limit)
    assert "".join(piece for piece, _ in cut) == text
    assert all(len(piece.encode()) == size <= limit for piece, size in cut)


class Conversation(RuleBasedStateMachine):
    """Any order of output, credit, acknowledgement and loss against an agent that counts."""

    def __init__(self):
        super().__init__()
        self.outbox = Outbox()
        self.written = 0
        self.credit = 0
        self.received = []
        self.seen = []

    def pump(self):
        for message in sent(self.outbox):
            self.credit -= len(message.get("text", "").encode())
            self.seen.append(message)

    @rule(text=st.text(max_size=50) | st.just("y" * 700_000), stream=st.sampled_from("oe"))
    def write(self, text, stream):
        if self.outbox.connected and len(text) > self.outbox.room():
            return
        self.written += len(text.encode())
        self.outbox.add_output("r", stream, text)
        self.pump()

    @rule()
    def tell(self):
        self.outbox.add("step-finished")
        self.pump()

    @precondition(lambda self: self.outbox.connected)
    @rule(credit=st.integers(1, 1 << 20))
    def give(self, credit):
        self.credit += credit
        self.outbox.give(credit)
        self.pump()

    @precondition(lambda self: self.seen)
    @rule(share=st.floats(0, 1), ack=st.booleans())
    def receive(self, share, ack):
        count = round(share * len(self.seen))
        self.received += self.seen[:count]
        del self.seen[:count]
        if ack and self.received:
            self.outbox.ack(self.received[-1]["seq"])

    @rule()
    def lose(self):
        self.outbox.disconnect()
        self.seen.clear()
        self.credit = 0

    @precondition(lambda self: not self.outbox.connected)
    @rule()
    def connect(self):
        self.outbox.connect(len(self.received))
        self.pump()

    @invariant()
    def never_more_than_the_credit(self):
        assert self.credit >= 0

    @invariant()
    def numbers_are_gapless(self):
        numbers = [message["seq"] for message in self.received + self.seen]
        assert numbers == list(range(1, len(numbers) + 1))

    def teardown(self):
        self.lose()
        self.connect()
        self.give(1 << 40)
        self.receive(1.0, True)
        told = sum(
            len(message.get("text", "").encode()) + message.get("bytes", 0)
            for message in self.received
        )
        assert told == self.written
        assert self.outbox.room() == OUTPUT_BOUND


TestConversation = Conversation.TestCase
TestConversation.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
