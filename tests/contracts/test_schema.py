"""A plugin's section is checked against its schema, all faults at once, and never half checked."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_core.contracts.schema import faults, schema_faults

SCHEMA = {
    "type": "object",
    "required": ["mode"],
    "additionalProperties": False,
    "properties": {
        "mode": {"type": "string", "enum": ["whole", "shared"], "description": "How to share"},
        "unit": {"type": "integer", "minimum": 1, "maximum": 8},
        "ratio": {"type": "number", "exclusiveMinimum": 0},
        "mask": {"type": "array", "maxItems": 2, "items": {"type": "string", "pattern": "^GPU-"}},
        "path": {"type": ["string", "null"], "minLength": 1},
        "image": {
            "oneOf": [
                {"type": "string", "minLength": 3},
                {"type": "object", "required": ["path"]},
                {"type": "string", "maxLength": 3},
            ]
        },
    },
}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"mode": "whole"}, []),
        ({"mode": "shared", "unit": 8, "ratio": 0.5, "mask": ["GPU-1"], "path": None}, []),
        ({}, ["mode is missing"]),
        ({"mode": "none"}, ["mode is 'none', not one of 'whole', 'shared'"]),
        ({"mode": "whole", "unit": 0}, ["unit is 0; it must be at least 1"]),
        ({"mode": "whole", "unit": True}, ["unit is True, not integer"]),
        ({"mode": "whole", "unit": 1.5}, ["unit is 1.5, not integer"]),
        ({"mode": "whole", "ratio": 0}, ["ratio is 0; it must be more than 0"]),
        ({"mode": "whole", "ratio": float("nan")}, ["ratio is not a number"]),
        ({"mode": "whole", "mask": ["GPU-1", "x"]}, ["mask[1] is 'x', which does not match"]),
        ({"mode": "whole", "mask": ["GPU-1"] * 3}, ["mask has 3 items; at most 2 are allowed"]),
        ({"mode": "whole", "path": ""}, ["path has 0 characters; at least 1 are needed"]),
        ({"mode": "whole", "path": 3}, ["path is 3, not string or null"]),
        ({"mode": "whole", "mood": 1}, ["mood is not known; known: mode, unit"]),
        ("text", ["is 'text', not object"]),
    ],
)
def test_each_fault_names_its_place(value, expected):
    found = list(faults(value, SCHEMA, "[plugin.acme]"))
    assert len(found) == len(expected)
    for fault, words in zip(found, expected, strict=True):
        assert fault.startswith("[plugin.acme]")
        assert words in fault


def test_all_faults_are_told_at_once():
    found = list(faults({"unit": "many", "mood": 1}, SCHEMA, "[plugin.acme]"))
    assert len(found) == 3


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"allOf": []}, "'allOf', which this host does not check"),
        ({"properties": {"a": {"format": "uri"}}}, "config_schema.a uses the keyword 'format'"),
        ({"type": "text"}, "the type 'text'"),
        ({"items": {"type": "nope"}}, "config_schema.items"),
        ({"pattern": "("}, "no regular expression"),
        ({"anyOf": [{"not": {}}]}, "config_schema.anyOf[0] uses the keyword 'not'"),
        ({"items": True}, "config_schema.items is bool"),
        ([], "config_schema is list"),
    ],
)
def test_a_schema_that_cannot_be_checked_is_refused(schema, words):
    assert any(words in fault for fault in schema_faults(schema))


def test_the_example_schema_and_the_empty_one_can_be_checked():
    assert list(schema_faults(SCHEMA)) == []
    assert list(schema_faults({})) == []


json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(json)
def test_no_value_makes_the_check_itself_fail(value):
    assert all(isinstance(fault, str) for fault in faults(value, SCHEMA, "here"))


@given(json)
def test_the_empty_schema_finds_no_fault_but_nan(value):
    assert all(fault.endswith("is not a number") for fault in faults(value, {}, "here"))
