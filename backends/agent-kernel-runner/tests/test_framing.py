"""Frames: what is encoded is decoded, and what is no frame is refused."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent_kernel_runner.daemon.framing import MAX_FRAME, FrameError, FrameReader, encode

values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


@settings(deadline=None)
@given(st.dictionaries(st.text(), values), st.integers(1, 9))
def test_a_message_arrives_as_it_was_however_the_bytes_are_cut(fields, size):
    message = {**fields, "type": "test"}
    data = encode(message) * 2
    reader = FrameReader()
    pieces = [data[start : start + size] for start in range(0, len(data), size)]
    assert [item for piece in pieces for item in reader.feed(piece)] == [message, message]


@given(st.text())
def test_any_text_is_plain_ascii_json_on_the_wire(text):
    body = encode({"type": "test", "text": text})[4:]
    assert body.isascii()
    assert json.loads(body)["text"] == text


def test_a_message_longer_than_a_frame_is_refused():
    with pytest.raises(FrameError, match="longer"):
        encode({"type": "test", "text": "x" * MAX_FRAME})


@pytest.mark.parametrize(
    ("value", "name"), [(float("nan"), "float"), (float("-inf"), "float"), (b"x", "bytes")]
)
def test_what_has_no_place_in_json_is_refused(value, name):
    with pytest.raises(FrameError, match=name):
        encode({"type": "test", "value": value})


@pytest.mark.parametrize(
    "body", [b"{", b"[]", b"5", b'"text"', b"{}", b'{"type": 5}', b"\xff\xfe", b"[" * 100_000]
)
def test_what_is_no_object_with_a_type_is_refused(body):
    with pytest.raises(FrameError):
        FrameReader().feed(len(body).to_bytes(4, "big") + body)


def test_a_frame_that_is_too_long_is_refused_before_it_arrives():
    with pytest.raises(FrameError, match="longer"):
        FrameReader().feed((MAX_FRAME + 1).to_bytes(4, "big"))
