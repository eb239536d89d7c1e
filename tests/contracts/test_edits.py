"""The law of merging edits, field by field."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_core.contracts.edits import (
    EDIT_FIELDS,
    ConfigFile,
    ContainerEdits,
    Cpuset,
    DeviceNode,
    DeviceRequest,
    Hook,
    MergedEdits,
    Mount,
    Permission,
)
from agent_core.contracts.errors import EditsConflict

WORDS = st.sampled_from(["a", "b", "c", "d"])
TUPLES = st.lists(WORDS, max_size=3).map(tuple)
MAPS = st.dictionaries(WORDS, WORDS, max_size=2)
NUMBERS = st.integers(-1, 9)

FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "env": MAPS,
    "path_env": st.dictionaries(WORDS.map(lambda w: f"{w}_PATH"), TUPLES, max_size=2),
    "preload": TUPLES,
    "device_nodes": st.lists(st.builds(DeviceNode, WORDS, WORDS), max_size=2).map(tuple),
    "mounts": st.lists(st.builds(Mount, WORDS, WORDS, st.sampled_from(Permission)), max_size=2).map(
        tuple
    ),
    "files": st.lists(st.builds(ConfigFile, WORDS, st.binary(max_size=1)), max_size=2).map(tuple),
    "cdi_names": TUPLES,
    "device_requests": st.lists(st.builds(DeviceRequest, WORDS, TUPLES, TUPLES), max_size=2).map(
        tuple
    ),
    "groups": TUPLES,
    "rlimits": st.dictionaries(WORDS, NUMBERS, max_size=2),
    "limits": st.dictionaries(WORDS, st.integers(0, 9), max_size=2),
    "cpuset": st.none() | st.builds(Cpuset, st.sampled_from([(0,), (1, 2)])),
    "syscalls": TUPLES,
    "networks": TUPLES,
    "labels": MAPS,
    "resource_data": MAPS,
    "hooks": st.lists(st.builds(Hook, WORDS, WORDS, TUPLES), max_size=2).map(tuple),
}
EDITS = st.fixed_dictionaries({}, optional=FIELDS).map(lambda f: ContainerEdits(**f))
SOURCES = st.sampled_from(["cuda", "mem", "zeta"])
PARTS = st.tuples(SOURCES, EDITS)

CONFLICT = "conflict"


def merged(*parts: tuple[str, ContainerEdits] | MergedEdits) -> MergedEdits | str:
    """Merge from the left; a conflict is a result like any other."""
    try:
        return MergedEdits.merge(
            p if isinstance(p, MergedEdits) else MergedEdits.of(*p) for p in parts
        )
    except EditsConflict:
        return CONFLICT


def resolved(result: MergedEdits | str) -> ContainerEdits | str:
    return result if isinstance(result, str) else result.resolve()


def test_the_properties_cover_every_field() -> None:
    assert tuple(FIELDS) == EDIT_FIELDS


@given(PARTS, PARTS)
def test_the_order_of_two_plugins_does_not_matter(
    a: tuple[str, ContainerEdits], b: tuple[str, ContainerEdits]
) -> None:
    assert merged(a, b) == merged(b, a)
    assert resolved(merged(a, b)) == resolved(merged(b, a))


@given(PARTS, PARTS, PARTS)
def test_the_grouping_of_three_plugins_does_not_matter(
    a: tuple[str, ContainerEdits], b: tuple[str, ContainerEdits], c: tuple[str, ContainerEdits]
) -> None:
    right = merged(b, c)
    grouped = CONFLICT if isinstance(right, str) else merged(a, right)
    if right == CONFLICT:
        assert merged(a, b, c) == CONFLICT
    assert merged(a, b, c) == grouped
    assert resolved(merged(a, b, c)) == resolved(grouped)


@given(PARTS)
def test_merging_the_same_again_and_merging_nothing_change_nothing(
    a: tuple[str, ContainerEdits],
) -> None:
    once = merged(a)

    assert merged(a, a) == once
    assert merged(a, ("cuda", ContainerEdits())) == once
    if isinstance(once, MergedEdits):
        assert merged(MergedEdits(), once, MergedEdits()) == once
        assert hash(merged(once, once)) == hash(once)


@given(SOURCES, EDITS)
def test_what_was_resolved_resolves_to_itself(source: str, edits: ContainerEdits) -> None:
    result = resolved(merged((source, edits)))

    if isinstance(result, ContainerEdits):
        assert resolved(merged((source, result))) == result


CONTRADICTIONS: dict[str, tuple[Any, Any]] = {
    "env": ({"A": "1"}, {"A": "2"}),
    "device_nodes": ((DeviceNode("/dev/x", "/dev/a"),), (DeviceNode("/dev/x", "/dev/b"),)),
    "mounts": ((Mount("/a", "/t"),), (Mount("/a", "/t", Permission.RW),)),
    "files": ((ConfigFile("/f", b"1"),), (ConfigFile("/f", b"2"),)),
    "cpuset": (Cpuset((0,)), Cpuset((1,))),
    "labels": ({"a": "1"}, {"a": "2"}),
    "resource_data": ({"a": "1"}, {"a": "2"}),
}


@pytest.mark.parametrize("field", CONTRADICTIONS)
def test_a_conflict_names_both_plugins_whichever_comes_first(field: str) -> None:
    one, two = (ContainerEdits(**{field: value}) for value in CONTRADICTIONS[field])
    parts = [MergedEdits.of("cuda", one), MergedEdits.of("mem", two)]

    for order in (parts, parts[::-1]):
        with pytest.raises(EditsConflict, match=f"'cuda' and 'mem' disagree on {field}") as refused:
            MergedEdits.merge(order)
        assert refused.value.details["plugins"] == ["cuda", "mem"]
        assert refused.value.details["field"] == field


@pytest.mark.parametrize(
    "field", [f for f in CONTRADICTIONS if isinstance(CONTRADICTIONS[f][0], tuple)]
)
def test_a_reply_that_contradicts_itself_is_a_conflict_and_loses_nothing(field: str) -> None:
    one, two = CONTRADICTIONS[field]

    with pytest.raises(EditsConflict, match="'cuda'"):
        MergedEdits.of("cuda", ContainerEdits(**{field: one + two}))


def test_a_variable_is_either_set_whole_or_added_to() -> None:
    whole = ContainerEdits(env={"LD_LIBRARY_PATH": "/a"})
    added = ContainerEdits(path_env={"LD_LIBRARY_PATH": ("/b",)})

    for order in ((("mem", whole), ("cuda", added)), (("cuda", added), ("mem", whole))):
        with pytest.raises(EditsConflict, match=r"'mem' sets .* and plugin 'cuda' adds") as refused:
            MergedEdits.merge(MergedEdits.of(*part) for part in order)
        assert refused.value.details["plugins"] == ["cuda", "mem"]


def test_each_field_has_its_law() -> None:
    one = ContainerEdits(
        path_env={"LD_LIBRARY_PATH": ("/mem", "/both")},
        preload=("mem.so",),
        groups=("video",),
        rlimits={"memlock": -1, "nofile": 10},
        limits={"memory": 5},
        device_requests=(DeviceRequest("nvidia", ("b",), ("gpu",)),),
    )
    two = ContainerEdits(
        path_env={"LD_LIBRARY_PATH": ("/cuda", "/both")},
        preload=("cuda.so",),
        groups=("render", "video"),
        rlimits={"memlock": 99, "nofile": 20},
        limits={"memory": 7},
        device_requests=(DeviceRequest("nvidia", ("a",), ("gpu", "utility")),),
    )

    both = MergedEdits.of("mem", one) | MergedEdits.of("cuda", two)

    assert both.resolve() == ContainerEdits(
        path_env={"LD_LIBRARY_PATH": ("/cuda", "/both", "/mem")},
        preload=("cuda.so", "mem.so"),
        groups=("render", "video"),
        rlimits={"memlock": -1, "nofile": 20},
        limits={"memory": 5},
        device_requests=(DeviceRequest("nvidia", ("a", "b"), ("gpu", "utility")),),
    )
    assert both.sources("groups") == ("cuda", "mem")
    assert both.sources("limits", "memory") == ("cuda", "mem")
    assert both.sources("limits", "cpus") == ()


def test_the_image_and_the_user_lie_under_what_plugins_own() -> None:
    merged_ = MergedEdits.of(
        "cuda", ContainerEdits(env={"GPU": "0"}, path_env={"PATH": ("/cuda/bin",)})
    )

    assert merged_.environment({"GPU": "all", "PATH": "/bin", "A": "image"}, {"A": "user"}) == {
        "GPU": "0",
        "PATH": "/cuda/bin:/bin",
        "A": "user",
    }
    assert merged_.environment()["PATH"] == "/cuda/bin"
