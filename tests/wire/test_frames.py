"""Frames survive the wire, and hostile bytes become one typed error or a frame, nothing else."""

import math

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_core.contracts.errors import (
    AgentError,
    Busy,
    MalformedFrame,
    NotFound,
    ProtocolMismatch,
    from_dict,
)
from agent_core.wire import frames
from agent_core.wire.frames import Cancel, Credit, End, Error, Item, Reply, Request, decode

ids = st.integers(1, frames.MAX_ID)
leaves = (
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 64) - 1)
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
)
plain = st.recursive(
    leaves, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20
)


@given(
    ids,
    st.text(min_size=1, max_size=64),
    st.dictionaries(st.text(), plain),
    st.none() | st.floats(min_value=1e-9, max_value=1e9),
    st.integers(0, frames.MAX_CREDIT),
)
def test_a_request_survives_the_wire(id_, method, params, timeout, credit):
    request = Request(id_, method, params, timeout, credit)

    assert decode(frames.encode_request(request)) == request


@given(ids, plain)
def test_answers_survive_the_wire(id_, content):
    assert decode(frames.encode_reply(id_, content)) == Reply(id_, content)
    assert decode(frames.encode_item(id_, content)) == Item(id_, content)
    assert decode(frames.encode_end(id_, content)) == End(id_, content)


@given(ids, st.integers(0, frames.MAX_CREDIT))
def test_cancel_and_credit_survive_the_wire(id_, amount):
    assert decode(frames.encode_cancel(id_)) == Cancel(id_)
    assert decode(frames.encode_credit(id_, amount)) == Credit(id_, amount)


def test_an_error_survives_the_wire_as_its_own_class():
    frame = decode(frames.encode_error(7, Busy("too much", details={"retry_after": 0.5})))

    assert isinstance(frame, Error)
    assert frame.id == 7
    error = from_dict(frame.error)
    assert isinstance(error, Busy)
    assert error.details == {"retry_after": 0.5}


def test_an_error_with_details_that_cannot_be_sent_is_sent_without_them():
    frame = decode(frames.encode_error(None, NotFound("gone", details={"what": object()})))

    assert isinstance(frame, Error)
    assert frame.id is None
    assert frame.error["code"] == "not-found"
    assert frame.error["details"] == {}


def outcome(data):
    try:
        return decode(data)
    except AgentError as exc:
        return exc


@given(st.binary(max_size=300))
def test_any_bytes_are_a_frame_or_a_typed_error(data):
    assert isinstance(outcome(data), frames.Frame | MalformedFrame | ProtocolMismatch)


kinds = st.sampled_from(["request", "reply", "item", "end", "error", "cancel", "credit"])


@given(
    st.lists(plain, max_size=5) | st.tuples(st.just(1), kinds | plain, ids | plain, plain, plain)
)
def test_any_msgpack_is_a_frame_or_a_typed_error(value):
    result = outcome(msgpack.packb(value))

    assert isinstance(result, frames.Frame | MalformedFrame | ProtocolMismatch)
    if isinstance(result, AgentError):
        assert 0 < result.details.get("id", 1) <= frames.MAX_ID


@given(st.binary(min_size=1, max_size=40), st.integers(0, 60))
def test_a_damaged_request_is_a_frame_or_a_typed_error(noise, at):
    data = bytearray(frames.encode_request(Request(3, "ping", {"text": "hello"}, 5.0)))
    data[at : at + len(noise)] = noise

    assert isinstance(outcome(bytes(data)), frames.Frame | MalformedFrame | ProtocolMismatch)


@pytest.mark.parametrize(
    ("parts", "what"),
    [
        ([1, "reqest", 5], "unknown kind"),
        ([1, ["request"], 5], "unknown kind"),
        ([1, "request", 5], "does not have 3 items"),
        ([1, "cancel", 5, 6], "does not have 4 items"),
        ([1, "request", 5, "", {}, None, 0], "not a name"),
        ([1, "request", 5, b"ping", {}, None, 0], "not a name"),
        ([1, "request", 5, "ping", [], None, 0], "not a mapping"),
        ([1, "request", 5, "ping", {b"a": 1}, None, 0], "not a mapping"),
        ([1, "request", 5, "ping", {}, "1", 0], "not a number of seconds"),
        ([1, "request", 5, "ping", {}, True, 0], "not a number of seconds"),
        ([1, "request", 5, "ping", {}, math.nan, 0], "not a positive number"),
        ([1, "request", 5, "ping", {}, math.inf, 0], "not a positive number"),
        ([1, "request", 5, "ping", {}, 0, 0], "not a positive number"),
        ([1, "request", 5, "ping", {}, None, -1], "credit is not"),
        ([1, "credit", 5, 1 << 40], "credit is not"),
        ([1, "error", 5, "no"], "not a mapping"),
    ],
)
def test_a_malformed_frame_says_what_is_wrong_and_to_which_request_it_belongs(parts, what):
    with pytest.raises(MalformedFrame, match=what) as caught:
        decode(msgpack.packb(parts))

    assert caught.value.details == {"id": 5}


@pytest.mark.parametrize("id_", [0, -1, True, None, "1", 1.0, 1 << 63, [1]])
def test_what_is_not_an_id_is_not_taken_for_one(id_):
    with pytest.raises(MalformedFrame) as caught:
        decode(msgpack.packb([1, "cancel", id_]))

    assert "id" not in caught.value.details


def test_another_version_names_the_supported_ones():
    with pytest.raises(ProtocolMismatch) as caught:
        decode(msgpack.packb([2, "request", 9, "something else"]))

    assert caught.value.details == {"supported": [1], "id": 9}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        msgpack.packb({"a": 1}),
        msgpack.packb([1, "ping"]),
        msgpack.packb([1, "cancel", 1]) + b"\0",
        msgpack.packb([1, "reply", 1, msgpack.ExtType(5, b"x")]),
        b"\x91" * 100_000,
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\x94\x01\xa5reply\x01\xa1\xff",
    ],
)
def test_what_is_no_frame_at_all_is_malformed(data):
    with pytest.raises(MalformedFrame):
        decode(data)


def test_a_frame_that_is_too_long_is_refused_before_it_is_sent():
    with pytest.raises(MalformedFrame, match="4194304 are the most") as caught:
        frames.encode_reply(1, b"x" * frames.MAX_MESSAGE)

    assert caught.value.details["bytes"] > frames.MAX_MESSAGE


def test_a_frame_that_is_too_long_is_not_read():
    with pytest.raises(MalformedFrame, match="are the most"):
        decode(b"\x90" * (frames.MAX_MESSAGE + 1))


@pytest.mark.parametrize("value", [object(), {1, 2}, 1 << 64])
def test_what_msgpack_cannot_hold_is_refused_before_it_is_sent(value):
    with pytest.raises(MalformedFrame, match="cannot be sent") as caught:
        frames.encode_request(Request(1, "ping", {"text": value}))

    assert "plain data" in str(caught.value.hint)
