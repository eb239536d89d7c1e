"""Ranges on agent-core mean what the packaging standard says."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.specifiers import SpecifierSet

from agent_core.host.requirement import admits, canonical, core_range

releases = st.lists(st.integers(0, 3), min_size=1, max_size=4).map(
    lambda parts: ".".join(map(str, parts))
)
clauses = st.one_of(
    st.tuples(st.sampled_from(["==", "!=", "<=", ">=", "<", ">"]), releases).map("".join),
    st.tuples(st.sampled_from(["==", "!="]), releases).map(lambda c: f"{c[0]}{c[1]}.*"),
    releases.filter(lambda release: "." in release).map(lambda release: f"~={release}"),
)


@given(st.lists(clauses, max_size=3).map(",".join), releases)
def test_a_range_admits_the_releases_that_packaging_admits(specifier, version):
    assert admits(specifier, version) == SpecifierSet(specifier).contains(version)


@pytest.mark.parametrize(
    ("requires", "expected"),
    [
        ([], ""),
        (["agent-core"], ""),
        (["agent-core>=0.1,<0.2"], ">=0.1,<0.2"),
        (["agent_core >= 0.1, < 0.2"], ">=0.1,<0.2"),
        (["agent-core (>=0.1)", "Agent.Core<0.2"], ">=0.1,<0.2"),
        (["agent-core[testing]>=0.1; python_version >= '3.11'"], ">=0.1"),
        (["agent-core>=9; extra == 'future'"], ""),
        (["agent-core-extras>=9", "pluggy", "???"], ""),
    ],
)
def test_the_range_is_taken_from_the_requirements(requires, expected):
    assert core_range(requires) == expected


@pytest.mark.parametrize("unreadable", ["=>1", "@ https://example.org/x.whl", "==1.0+local"])
def test_a_clause_that_cannot_be_read_is_not_held_against_the_plugin(unreadable):
    assert admits(unreadable, "0.1.0")
    assert admits("<0.1", "unknown")


def test_spellings_of_one_distribution_are_one():
    assert {canonical(name) for name in ("Accel_Acme", "accel.acme", "accel--acme")} == {
        "accel-acme"
    }
