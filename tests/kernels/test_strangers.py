"""The plan for what the ledger does not know: only what is provably ours, and old, is removed."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_core.contracts.backend import Presence
from agent_core.kernels.strangers import (
    FirstSeen,
    Policy,
    Recorded,
    Rules,
    StrangerVerdict,
    Thing,
    plan_strangers,
)

NOW, GRACE = 1000.0, 300.0
OLD, FRESH = 100.0, 900.0
REMOVE = Rules("me", Policy.REMOVE, GRACE)


NOTHING = Recorded()


def decide(thing, *others, recorded=NOTHING, at=OLD, rules=REMOVE):
    seen = {t.name: at for t in (thing, *others)}
    actions = plan_strangers([thing, *others], recorded, seen, NOW, rules)
    return next((a.verdict for a in actions if a.thing == thing), None)


CONTAINER = Thing("container", "me.k.1.main.0", "k", "me")
SCRATCH = Thing("scratch", "k", "k", "me")
DEVICE = Thing("device", "k.1.aa", "k")
RUN_DIR = Thing("run-dir", "/run/k/abc", None, "me")


@pytest.mark.parametrize("thing", [CONTAINER, SCRATCH, RUN_DIR], ids=lambda t: t.kind)
def test_ours_waits_while_it_is_fresh_then_is_reported_or_removed_as_the_policy_says(thing):
    assert decide(thing, at=FRESH) is StrangerVerdict.WAIT
    assert decide(thing) is StrangerVerdict.REMOVE
    assert decide(thing, rules=replace(REMOVE, policy=Policy.REPORT)) is StrangerVerdict.REPORT


def test_another_agents_is_not_even_named():
    assert decide(replace(CONTAINER, owner="other")) is None
    assert decide(replace(SCRATCH, owner="other")) is None


def test_what_nobody_can_see_or_prove_is_left_alone():
    assert decide(replace(CONTAINER, presence=Presence.UNKNOWN)) is StrangerVerdict.LEAVE
    assert decide(replace(SCRATCH, owner=None)) is StrangerVerdict.LEAVE
    assert decide(replace(CONTAINER, presence=Presence.ABSENT)) is None


def test_what_is_held_is_no_stranger():
    assert decide(SCRATCH, recorded=Recorded(held=frozenset({SCRATCH.name}))) is None


def test_what_belongs_to_a_kernel_that_has_not_ended_is_left_alone():
    living = Recorded(living=frozenset({"k"}))
    assert decide(CONTAINER, recorded=living) is StrangerVerdict.LEAVE
    assert decide(SCRATCH, recorded=living) is StrangerVerdict.LEAVE


def test_a_prepared_device_is_ours_when_the_ledger_knows_its_kernel_to_have_ended():
    assert decide(DEVICE) is StrangerVerdict.LEAVE
    ended = Recorded(ended=frozenset({"k"}))
    assert decide(DEVICE, recorded=ended) is StrangerVerdict.REMOVE


@pytest.mark.parametrize("presence", [Presence.PRESENT, Presence.UNKNOWN])
def test_what_a_container_may_use_is_left_until_that_is_gone(presence):
    container = replace(CONTAINER, presence=presence)
    assert decide(SCRATCH, container) is StrangerVerdict.LEAVE
    assert decide(replace(RUN_DIR, kernel_id="k"), container) is StrangerVerdict.LEAVE
    other = replace(container, kernel_id="other")
    assert decide(SCRATCH, other) is StrangerVerdict.REMOVE
    nameless = replace(container, kernel_id=None)
    assert decide(SCRATCH, nameless) is StrangerVerdict.LEAVE


@pytest.mark.parametrize("presence", [Presence.PRESENT, Presence.UNKNOWN])
def test_a_claim_is_not_free_while_its_device_is_or_may_be_prepared(presence):
    claim = Thing("claim", "k.1.aa", "k", "me")
    assert decide(claim) is StrangerVerdict.REMOVE
    assert decide(claim, replace(DEVICE, presence=presence)) is StrangerVerdict.LEAVE
    assert decide(claim, replace(DEVICE, key="other.1.aa")) is StrangerVerdict.REMOVE


def test_the_time_of_the_first_look_is_kept_as_long_as_the_thing_is_seen():
    seen = FirstSeen()
    assert seen.look([CONTAINER.name], 1.0) == {CONTAINER.name: 1.0}
    assert seen.look([CONTAINER.name, SCRATCH.name], 2.0)[CONTAINER.name] == 1.0
    seen.look([SCRATCH.name], 3.0)
    assert seen.look([CONTAINER.name], 4.0) == {CONTAINER.name: 4.0}


# ---- properties ---------------------------------------------------------------------------------

KERNELS = st.sampled_from("abcd")
THINGS = st.builds(
    Thing,
    kind=st.sampled_from(["container", "scratch", "run-dir", "device", "claim", "log"]),
    key=KERNELS,
    kernel_id=st.none() | KERNELS,
    owner=st.sampled_from([None, "me", "other"]),
    presence=st.sampled_from(list(Presence)),
)
KEYS = st.tuples(st.sampled_from(["container", "scratch", "device", "claim"]), KERNELS)


@st.composite
def worlds(draw):
    things = draw(st.lists(THINGS, unique_by=lambda t: t.name, max_size=10))
    living = draw(st.frozensets(KERNELS))
    recorded = Recorded(
        held=draw(st.frozensets(KEYS)), living=living, ended=draw(st.frozensets(KERNELS)) - living
    )
    seen = {t.name: draw(st.floats(0, NOW)) for t in things if draw(st.booleans())}
    return things, recorded, seen


def removed(things, recorded, seen, rules=REMOVE):
    actions = plan_strangers(things, recorded, seen, NOW, rules)
    return {a.thing.name for a in actions if a.verdict is StrangerVerdict.REMOVE}


@given(worlds())
def test_nothing_is_removed_that_is_not_provably_ours_past_its_grace_and_used_by_nobody(world):
    things, recorded, seen = world
    by_name = {t.name: t for t in things}
    containers = [t for t in things if t.kind == "container" and t.presence is not Presence.ABSENT]
    for name in removed(things, recorded, seen):
        thing = by_name[name]
        assert thing.presence is Presence.PRESENT
        assert thing.owner == "me" or (
            thing.kind == "device" and thing.owner is None and thing.kernel_id in recorded.ended
        )
        assert NOW - seen[name] >= GRACE
        assert name not in recorded.held
        assert thing.kernel_id not in recorded.living
        if thing.kind != "container":
            assert all(c.kernel_id not in (None, thing.kernel_id) for c in containers)
        if thing.kind == "claim":
            device = by_name.get(("device", thing.key))
            assert device is None or device.presence is Presence.ABSENT


KINDS = st.sampled_from(["container", "scratch", "device", "claim", "run-dir", "log"])


@given(worlds(), st.sets(st.tuples(KINDS, KERNELS)))
def test_knowing_less_never_removes_more(world, forgotten):
    things, recorded, seen = world
    before = removed(things, recorded, seen)
    unknown = [
        replace(t, presence=Presence.UNKNOWN)
        if t.name in forgotten and t.presence is Presence.PRESENT
        else t
        for t in things
    ]
    assert removed(unknown, recorded, seen) <= before
    assert removed(things, recorded, {n: at for n, at in seen.items() if n not in forgotten}) <= (
        before
    )
    whose = [replace(t, owner=None) if t.name in forgotten else t for t in things]
    devices = {t.name for t in things if t.kind == "device"}
    assert removed(whose, recorded, seen) - devices <= before


@given(worlds())
def test_a_few_rounds_remove_all_that_may_be_removed_and_then_nothing_more(world):
    things, recorded, seen = world
    for _ in range(3):
        gone = removed(things, recorded, seen)
        things = [t for t in things if t.name not in gone]
    assert removed(things, recorded, seen) == set()


@given(worlds())
def test_reporting_names_exactly_what_removing_would_remove(world):
    things, recorded, seen = world
    rules = replace(REMOVE, policy=Policy.REPORT)
    actions = plan_strangers(things, recorded, seen, NOW, rules)
    reported = {a.thing.name for a in actions if a.verdict is StrangerVerdict.REPORT}
    assert removed(things, recorded, seen, rules) == set()
    assert reported == removed(things, recorded, seen)


@given(worlds())
def test_another_agents_things_change_only_what_they_use(world):
    things, recorded, seen = world
    assert not any(
        a.thing.owner == "other" for a in plan_strangers(things, recorded, seen, NOW, REMOVE)
    )
    users = ("container", "device")
    strangers = [t for t in things if t.owner != "other" or t.kind in users]
    assert removed(strangers, recorded, seen) == removed(things, recorded, seen)
