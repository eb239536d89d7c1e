"""The plan for what the ledger knows: nothing that may run is ever ended."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_core.contracts.backend import ContainerState, ExitStatus, Presence
from agent_core.kernels.intents import Ending
from agent_core.kernels.reconcile import Action, Known, Sighting, Verdict, plan
from agent_core.kernels.states import KernelState, Reason
from agent_core.ledger import KernelRow


def row(state, kernel_id="k", version=1):
    return KernelRow(kernel_id, "s", state, {}, "d", 1.0, container="c", version=version)


def seen(presence=Presence.PRESENT, state=None, exit_status=None, **fields):
    return Sighting(presence, 5.0, 6.0, state, exit_status, **fields)


RUNNING = seen(state=ContainerState.RUNNING)
EXITED = seen(state=ContainerState.EXITED, exit_status=ExitStatus(code=3))
INFERRED = seen(state=ContainerState.EXITED, exit_status=ExitStatus(observed=False))
ABSENT = seen(Presence.ABSENT)
UNLISTED = seen(Presence.ABSENT, confirmed=False)
UNKNOWN = seen(Presence.UNKNOWN)


def decide(state, sighting, *, rebooted=False, **known):
    sightings = {} if sighting is None else {"k": sighting}
    [action] = plan([Known(row(state), **known)], sightings, rebooted=rebooted)
    return action


@pytest.mark.parametrize(
    ("state", "sighting", "rebooted", "verdict", "reason"),
    [
        ("RUNNING", RUNNING, False, Verdict.ADOPT, None),
        ("RUNNING", seen(), False, Verdict.LEAVE, None),
        ("RUNNING", UNKNOWN, False, Verdict.LEAVE, None),
        ("RUNNING", UNKNOWN, True, Verdict.LEAVE, None),
        ("RUNNING", None, False, Verdict.LEAVE, None),
        ("RUNNING", UNLISTED, False, Verdict.LEAVE, None),
        ("RUNNING", EXITED, False, Verdict.END, Reason.SELF_TERMINATED),
        ("RUNNING", INFERRED, True, Verdict.END, Reason.REBOOTED),
        ("RUNNING", ABSENT, False, Verdict.END, Reason.CONTAINER_NOT_FOUND),
        ("RUNNING", ABSENT, True, Verdict.END, Reason.REBOOTED),
        ("PREPARING", RUNNING, False, Verdict.END, Reason.CREATE_INTERRUPTED),
        ("PREPARING", None, False, Verdict.END, Reason.CREATE_INTERRUPTED),
        ("RESTARTING", ABSENT, False, Verdict.ADOPT, None),
        ("RESTARTING", ABSENT, True, Verdict.END, Reason.REBOOTED),
        ("TERMINATING", RUNNING, False, Verdict.FINISH, None),
        ("TERMINATED", ABSENT, False, Verdict.FINISH, None),
    ],
)
def test_each_case_has_its_verdict(state, sighting, rebooted, verdict, reason):
    action = decide(state, sighting, rebooted=rebooted)
    assert action.verdict is verdict
    assert (action.ending.reason if action.ending else None) == reason
    assert action.because


def test_the_exit_code_that_was_seen_is_kept():
    assert decide("RUNNING", EXITED).ending == Ending("self-terminated", None, ExitStatus(code=3))


def test_what_began_to_be_observed_before_the_last_change_counts_for_nothing():
    assert decide("RUNNING", ABSENT, since=5.0).verdict is Verdict.WAIT
    assert decide("RUNNING", ABSENT, since=4.9).verdict is Verdict.END


def test_a_restart_that_nobody_goes_on_with_is_said_to_be_its_owners():
    assert "its owner goes on" in decide("RESTARTING", None).because


# ---- properties ---------------------------------------------------------------------------------

STATES = st.sampled_from([state.value for state in KernelState])
EXITS = st.none() | st.builds(ExitStatus, code=st.none() | st.integers(0, 255))
SIGHTINGS = st.builds(
    Sighting,
    presence=st.sampled_from(list(Presence)),
    began=st.floats(0, 10),
    ended=st.just(10.0),
    state=st.none() | st.sampled_from(list(ContainerState)),
    exit=EXITS,
    confirmed=st.booleans(),
)


@st.composite
def worlds(draw):
    """Kernels of any kind, and what was seen of some of them."""
    names = draw(st.lists(st.sampled_from("abcdefgh"), unique=True, max_size=8))
    known = [
        Known(
            row(draw(STATES), name, draw(st.integers(1, 9))),
            since=draw(st.floats(0, 10)),
            busy=draw(st.booleans()),
        )
        for name in names
    ]
    return known, draw(st.dictionaries(st.sampled_from("abcdefgh"), SIGHTINGS, max_size=8))


def destructive(actions):
    return {action.kernel_id for action in actions if action.verdict is Verdict.END}


def applied(known, actions):
    """What the ledger says once owners have done what was decided: an end gives all back."""
    over = {a.kernel_id for a in actions if a.verdict in (Verdict.END, Verdict.FINISH)}
    return [
        Known(replace(each.row, state="TERMINATED", version=each.row.version + 1))
        if each.row.kernel_id in over
        else each
        for each in known
    ]


def left(known, actions):
    """Whose row is not final yet: a kernel that has ended and holds nothing is not looked at."""
    ended = {k.row.kernel_id for k in known if k.row.state == "TERMINATED" and not k.busy}
    return [a for a in actions if a.kernel_id not in ended]


@given(worlds(), st.booleans())
def test_what_was_done_once_is_not_decided_again(world, rebooted):
    known, sightings = world
    after = applied(known, plan(known, sightings, rebooted=rebooted))
    again = left(after, plan(after, sightings, rebooted=rebooted))
    assert not [a for a in again if a.verdict in (Verdict.END, Verdict.FINISH)]


@given(worlds())
def test_with_everything_seen_one_round_makes_the_ledger_and_the_world_agree(world):
    known, _ = world
    idle = [replace(each, busy=False, since=0.0) for each in known]
    certain = {each.row.kernel_id: [RUNNING, EXITED, ABSENT][n % 3] for n, each in enumerate(idle)}
    after = applied(idle, plan(idle, certain))
    for action in left(after, plan(after, certain)):
        assert action.verdict is Verdict.ADOPT


@given(worlds(), st.booleans())
def test_only_what_is_certainly_over_or_was_never_whole_is_ended(world, rebooted):
    known, sightings = world
    by_id = {each.row.kernel_id: each for each in known}
    for kernel_id in destructive(plan(known, sightings, rebooted=rebooted)):
        each, sighting = by_id[kernel_id], sightings.get(kernel_id)
        assert not each.busy
        if each.row.state == "PREPARING" or (each.row.state == "RESTARTING" and rebooted):
            continue
        assert each.row.state == "RUNNING"
        assert sighting.presence is not Presence.UNKNOWN
        assert sighting.began > each.since
        assert sighting.confirmed or sighting.presence is Presence.PRESENT
        assert sighting.state is not ContainerState.RUNNING or sighting.presence is Presence.ABSENT


@given(worlds(), st.booleans(), st.sets(st.sampled_from("abcdefgh")))
def test_knowing_less_never_ends_more(world, rebooted, forgotten):
    known, sightings = world
    before = destructive(plan(known, sightings, rebooted=rebooted))
    unknown = {
        k: replace(s, presence=Presence.UNKNOWN) if k in forgotten else s
        for k, s in sightings.items()
    }
    missing = {k: s for k, s in sightings.items() if k not in forgotten}
    for less in (unknown, missing):
        assert destructive(plan(known, less, rebooted=rebooted)) <= before


@given(worlds())
def test_an_action_carries_what_it_was_decided_for_and_the_order_of_kernels_is_nothing(world):
    known, sightings = world
    actions = plan(known, sightings)
    assert [(a.kernel_id, a.version) for a in actions] == [
        (k.row.kernel_id, k.row.version) for k in known
    ]
    assert plan(known[::-1], sightings) == actions[::-1]
    assert all(isinstance(a, Action) and a.because for a in actions)
