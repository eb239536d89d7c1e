"""Every type of the contracts that may run in a worker crosses as plain data and back, equal."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent_core.contracts import amount, device, edits, info
from agent_core.contracts.amount import Amount
from agent_core.contracts.device import ComputeDevice, Device, Health, Measurement
from agent_core.contracts.info import Plugin, PluginInfo
from agent_core.contracts.plain import from_plain, to_plain
from agent_core.host.channel import Channel, packed
from agent_core.host.signatures import signature

TYPES = sorted(
    {
        each
        for module in (amount, device, edits, info)
        for each in vars(module).values()
        if isinstance(each, type)
        and each.__module__.startswith("agent_core.contracts")
        and not each.__name__.startswith("_")
        and (is_dataclass(each) or issubclass(each, enum.Enum))
    },
    key=lambda each: each.__name__,
)
METHODS = sorted(
    name
    for name in vars(ComputeDevice).keys() | vars(Plugin).keys()
    if name[0] != "_" and name != "info"
)

plain_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
st.register_type_strategy(Amount, st.builds(Amount, st.integers(0, 10**30), st.integers(0, 18)))


def strategy(kind: Any) -> st.SearchStrategy[Any]:
    if kind is PluginInfo:
        return st.builds(PluginInfo, config_schema=st.dictionaries(st.text(), plain_json))
    if kind is Measurement:
        number = st.floats(allow_nan=False)
        return st.builds(Measurement, value=number, at=number, capacity=st.none() | number)
    return st.from_type(kind)


def through_the_wire(value: Any) -> Any:
    class Loop:
        """A socket that gives back what was sent, in pieces."""

        def __init__(self) -> None:
            self.sent = b""

        def sendall(self, data: bytes) -> None:
            self.sent += data

        def recv(self, size: int) -> bytes:
            piece, self.sent = self.sent[:7], self.sent[7:]
            return piece

        def gettimeout(self) -> None:
            return None

    channel = Channel(Loop())  # type: ignore[arg-type]
    channel.send(to_plain(value))
    return channel.receive()


def test_the_types_of_the_contract_are_found():
    assert {"Device", "Claim", "ContainerEdits", "PluginInfo", "Amount", "Health"} <= {
        each.__name__ for each in TYPES
    }
    assert len(TYPES) >= 25


@pytest.mark.parametrize("kind", TYPES, ids=lambda kind: kind.__name__)
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_every_type_comes_back_equal(kind, data):
    value = data.draw(strategy(kind))
    assert from_plain(kind, through_the_wire(value)) == value
    assert type(from_plain(kind, to_plain(value))) is kind


@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_every_method_has_arguments_and_a_reply_that_cross(method, data):
    declared = signature("device", method)
    for kind in (*declared.arguments, declared.reply):
        if kind == Mapping[str, Any]:
            value: Any = data.draw(st.dictionaries(st.text(), plain_json, max_size=3))
        elif kind == Sequence[Measurement]:
            value = data.draw(st.lists(strategy(Measurement), max_size=2))
        elif kind is type(None):
            value = None
        else:
            value = data.draw(st.from_type(kind))
        back = from_plain(kind, through_the_wire(value))
        assert back == (list(value) if isinstance(value, tuple) else value)


@pytest.mark.parametrize(
    ("kind", "plain", "fault"),
    [
        (Sequence[str], "abc", "'abc' is not a sequence"),
        (Sequence[str], ["a", 1], "1 is not str"),
        (Device, {"id": "a", "model": "m", "numa_node": True}, "Device.numa_node: True is not int"),
        (Device, {"id": "a"}, "model"),
        (Device, {"id": "a", "model": "m", "color": "red"}, "no field 'color'"),
        (Device, {"id": "a", "model": "m", "counters": [{"id": "a"}]}, "capacity"),
        (Device, {"id": "a", "model": "m", "links": {1: "x"}}, "the key 1"),
        (Device, ["a"], "is not Device"),
        (Health, "fine", "'fine' is not Health"),
        (Health, ["healthy"], "is not Health"),
        (type(None), 0, "0 is not None"),
        (int | str, 1, "a union is of one type and None"),
        (tuple[int, str], [1, "a"], "any number of one type"),
        (set[int], [1], "not the type of plain data"),
    ],
)
def test_what_is_not_of_the_declared_type_is_refused(kind, plain, fault):
    with pytest.raises(TypeError, match=fault.replace("(", r"\(")):
        from_plain(kind, plain)


def test_a_value_that_its_class_refuses_is_refused():
    with pytest.raises(ValueError, match="never negative"):
        from_plain(Amount, {"value": -1, "scale": 0})


@dataclass(frozen=True)
class Holder:
    thing: object


@pytest.mark.parametrize("value", [object(), {1: 2}, {"a": {object()}}, Holder(print), Device])
def test_what_is_not_plain_is_refused_before_it_is_sent(value):
    with pytest.raises(TypeError):
        to_plain(value)


def test_the_largest_amount_crosses_exactly():
    value = Amount(10**30 + 1, 17)
    assert fields(Amount)
    assert from_plain(Amount, through_the_wire(value)) == value
    assert len(packed(to_plain(value))) < 100
