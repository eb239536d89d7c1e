"""The plan of a rebuilding: nothing that runs is missed, and a second look changes nothing."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_core.contracts.backend import ContainerState, ContainerStatus, ExitStatus, Presence
from agent_core.kernels.rebuilding import plan_rebuild
from agent_core.kernels.records import UnreadableRecordError, read_record, record_of
from agent_core.kernels.states import KernelState
from agent_core.ledger import HoldRow, HoldState, KernelRow

PORTS = ["30000", "30001"]


def row_of(kernel_id, incarnation, created_at, state):
    ended = 9.0 if state == "TERMINATED" else None
    return KernelRow(
        kernel_id,
        "s",
        state,
        {"image": "python", "env": {"A": "b"}},
        "d",
        created_at,
        incarnation,
        ended_at=ended,
        container=f"t.{kernel_id}.{incarnation}.main.0",
    )


def holds_of(row, *, port=None):
    kernel_id = row.kernel_id
    holds = [
        HoldRow("claim", f"{kernel_id}.1.aa", kernel_id, undo={"id": kernel_id}, order=0),
        HoldRow("network", "n", kernel_id, order=1, shared=True),
        HoldRow("container", row.container, kernel_id, row.incarnation, order=3),
    ]
    if port is not None:
        holds.append(HoldRow("port", port, kernel_id, order=2))
    return [replace(hold, state=HoldState.HELD) for hold in holds]


kernels = st.sampled_from(["a", "b", "c"])
times = st.sampled_from([1.0, 2.0])
incarnations = st.integers(1, 3)


@st.composite
def worlds(draw):
    """A ledger's rows and holds, and the containers of the backend; each port runs once at most."""
    rows, holds, containers = {}, [], []
    ports_known, ports_run = [*PORTS], [*PORTS]
    for kernel_id in draw(st.sets(kernels)):
        row = row_of(kernel_id, draw(incarnations), draw(times), draw(st.sampled_from(KernelState)))
        rows[kernel_id] = row
        if row.ended_at is None:
            port = ports_known.pop() if ports_known and draw(st.booleans()) else None
            held = holds_of(row, port=port)
            holds += [
                replace(held[at], state=draw(st.sampled_from([HoldState.TAKING, HoldState.HELD])))
                for at in sorted(draw(st.sets(st.integers(0, len(held) - 1))))
            ]
    for kernel_id in draw(st.sets(kernels)):
        row = row_of(kernel_id, draw(incarnations), draw(times), "PREPARING")
        port = ports_run.pop() if ports_run and draw(st.booleans()) else None
        state = draw(st.sampled_from(ContainerState))
        ended = ExitStatus(0) if state is ContainerState.EXITED else None
        record = record_of(row, holds_of(row, port=port))
        containers.append(ContainerStatus(row.container, state=state, exit=ended, record=record))
    return rows, holds, containers


def applied(rows, holds, rebuild):
    rows = rows | {row.kernel_id: row for row in rebuild.rows}
    stale = {(h.kind, h.key, h.kernel_id) for h in rebuild.stale}
    kept = {
        (h.kind, h.key, h.kernel_id): h for h in holds if (h.kind, h.key, h.kernel_id) not in stale
    }
    return rows, [*(kept | {(h.kind, h.key, h.kernel_id): h for h in rebuild.holds}).values()]


@given(worlds())
def test_what_runs_is_a_live_kernel_with_all_that_its_record_has(world):
    rows, holds, containers = world
    after, held = applied(rows, holds, plan_rebuild(rows.values(), holds, containers))
    keys = {(h.kind, h.key, h.kernel_id) for h in held}
    for status in containers:
        if status.state is not ContainerState.RUNNING:
            continue
        told = read_record(status.record)
        row = after[told.row.kernel_id]
        assert row.ended_at is None
        if row.container == status.name:
            assert row.state != KernelState.PREPARING
            assert {(h.kind, h.key, h.kernel_id) for h in told.holds} <= keys


@given(worlds())
def test_nothing_is_held_twice_and_nobody_holds_who_is_not_there(world):
    rows, holds, containers = world
    after, held = applied(rows, holds, plan_rebuild(rows.values(), holds, containers))
    alone = [(h.kind, h.key) for h in held if not h.shared]
    assert len(alone) == len(set(alone))
    assert {h.kernel_id for h in held} <= after.keys()


@given(worlds())
def test_a_second_look_changes_nothing(world):
    rows, holds, containers = world
    after, held = applied(rows, holds, plan_rebuild(rows.values(), holds, containers))
    again = plan_rebuild(after.values(), held, containers)
    assert (again.rows, again.holds, again.stale) == ([], [], [])


@given(worlds())
def test_no_kernel_is_forgotten_and_versions_only_grow(world):
    rows, holds, containers = world
    rebuild = plan_rebuild(rows.values(), holds, containers)
    after, _ = applied(rows, holds, rebuild)
    assert rows.keys() <= after.keys()
    for row in rebuild.rows:
        old = rows.get(row.kernel_id)
        assert old is None or row.version == old.version + 1


@given(worlds())
def test_a_sound_record_comes_back_as_it_was_written(world):
    for status in world[2]:
        told = read_record(status.record)
        assert told.row.container == status.name
        again = record_of(told.row, told.holds)
        assert again == {**status.record, "env": []}


@pytest.mark.parametrize(
    "damage",
    [
        {"version": 1},
        {"version": 99},
        {"kernel_id": None},
        {"session_id": ""},
        {"incarnation": "many"},
        {"created_at": None},
        {"spec": 5},
        {"holds": [5]},
        {"holds": [{"kind": "claim"}]},
        {"holds": None},
        {"env": None},
    ],
)
def test_a_record_that_is_none_is_refused_and_its_container_is_unknown(damage):
    row = row_of("a", 1, 1.0, "RUNNING")
    record = {**record_of(row, holds_of(row)), **damage}
    with pytest.raises(UnreadableRecordError):
        read_record(record)
    running = ContainerStatus(row.container, state=ContainerState.RUNNING, record=record)
    (unknown,) = plan_rebuild([], [], [running]).unknown
    assert row.container in unknown
    # Where the ledger knows whose it is, the record is not needed.
    assert plan_rebuild([row], [], [running]).unknown == []
    absent = replace(running, presence=Presence.ABSENT, state=None)
    assert plan_rebuild([], [], [absent]).unknown == []
