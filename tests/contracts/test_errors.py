"""Errors: every one has a code, crosses the wire as itself, and is in the tree of the docstring."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent_core.contracts import errors
from agent_core.contracts.errors import AgentError, PluginError, all_errors, bullet_list, from_dict

EVERY = list(all_errors())
TREE = re.findall(r"[├└]── (\w+) +(.*)", errors.__doc__ or "")


@pytest.mark.parametrize("error", EVERY)
@settings(max_examples=10)
@given(message=st.text(max_size=40), detail=st.dictionaries(st.text(max_size=5), st.integers()))
def test_an_error_crosses_the_wire_as_itself(
    error: type[AgentError], message: str, detail: dict[str, int]
) -> None:
    there = from_dict(error(message, hint="mend it", details=detail).to_dict())

    assert type(there) is error
    assert (there.message, there.hint, str(there)) == (message, "mend it", message)
    assert detail.items() <= there.details.items()
    assert there.to_dict() == from_dict(there.to_dict()).to_dict()


@pytest.mark.parametrize("error", EVERY)
def test_the_hint_of_the_class_is_kept_where_none_is_given(error: type[AgentError]) -> None:
    assert from_dict(error("x").to_dict()).hint == error.hint


def test_a_plugins_error_keeps_its_plugin_and_stage_over_the_wire() -> None:
    there = from_dict(PluginError("x", plugin="acme", stage="open").to_dict())

    assert isinstance(there, PluginError)
    assert (there.plugin, there.stage) == ("acme", "open")


def test_every_code_is_one_classes_own() -> None:
    codes = [error.code for error in EVERY]

    assert sorted(codes) == sorted(set(codes))
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)*", code) for code in codes)
    assert all((error.__doc__ or "").startswith("Raised") for error in EVERY[1:])


def test_the_tree_in_the_docstring_lists_every_class_with_its_code() -> None:
    told = dict(TREE)

    assert len(told) == len(TREE)
    assert set(told) == {error.__name__ for error in EVERY[1:]}
    for error in EVERY[1:]:
        assert re.split(r"[ :]", told[error.__name__])[0] == error.code
        assert ("retryable" in told[error.__name__]) == error.retryable


def test_the_tree_in_the_docstring_has_the_classes_under_their_parents() -> None:
    parents: list[tuple[int, str]] = [(-1, "AgentError")]
    for line in (errors.__doc__ or "").splitlines():
        found = re.match(r"( +[│ ]*)[├└]── (\w+)", line)
        if not found:
            continue
        depth, name = len(found.group(1)), found.group(2)
        while parents[-1][0] >= depth:
            parents.pop()
        assert getattr(errors, name).__base__.__name__ == parents[-1][1]
        parents.append((depth, name))


@pytest.mark.parametrize("data", [{}, {"code": "from-the-future"}, {"code": None, "details": 3}])
def test_an_error_of_a_newer_agent_is_still_an_error(data: dict[str, object]) -> None:
    assert type(from_dict(data)) is AgentError


def test_several_faults_are_listed_in_one_message() -> None:
    assert bullet_list(["one"]) == "one"
    assert bullet_list(["one", "two"]) == "2 faults:\n  - one\n  - two"
