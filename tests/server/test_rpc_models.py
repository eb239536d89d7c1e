"""Parameters of any shape are taken or refused with every fault; answers likewise."""

from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from agent_core.client.stream import misread
from agent_core.contracts.errors import InvalidArgument, ProtocolMismatch
from agent_core.server.dispatcher import Dispatcher
from agent_core.wire import frames
from agent_core.wire.methods import METHODS
from agent_core.wire.roles import Role

anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 64) - 1)
    | st.floats()
    | st.text()
    | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)
plausible = st.sampled_from(["k1", "r-1", ["RUNNING"], True, 1, 0.5, "query", {}, "x" * 5000])


def shapes_of(model):
    """Mappings that name the model's own fields, or others, with anything in them."""
    known = st.sampled_from([*model.model_fields, "unknown", ""])
    return st.dictionaries(known | st.text(max_size=5), plausible | anything, max_size=6)


@pytest.fixture(scope="module")
def dispatcher():
    nothing = SimpleNamespace(execute=None)
    made = Dispatcher(nothing, nothing, nothing, nothing)
    made._handlers = dict.fromkeys(METHODS, lambda params: params)
    return made


@pytest.mark.parametrize("method", METHODS.values(), ids=lambda method: method.name)
@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_any_parameters_are_taken_or_refused_with_their_faults(dispatcher, method, data):
    params = data.draw(shapes_of(method.params))
    result = outcome(dispatcher.dispatch, method, params, Role.ADMIN)
    if isinstance(result, InvalidArgument):
        assert result.details["faults"]
        frame = frames.decode(frames.encode_error(1, result))
        assert frame.error["details"] == result.details
    else:
        assert isinstance(result, method.params)
        assert set(params) <= set(method.params.model_fields)


@pytest.mark.parametrize("method", METHODS.values(), ids=lambda method: method.name)
@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_any_answer_is_read_or_said_to_be_unknown(method, data):
    result = outcome(method.read, data.draw(anything | shapes_of(method.result)))
    if isinstance(result, ValidationError):
        assert isinstance(misread(method, result), ProtocolMismatch)


def outcome(function, *arguments):
    """What a function returns, or the refusal that it raises; nothing else may come of it."""
    try:
        return function(*arguments)
    except (InvalidArgument, ValidationError) as exc:
        return exc
