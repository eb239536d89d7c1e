"""The plan for what an earlier agent left: nothing that may run is ever ended."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_core.contracts.backend import ContainerState, ContainerStatus, ExitStatus, Presence
from agent_core.kernels.reconcile import Verdict, plan
from agent_core.kernels.states import KernelState, Reason
from agent_core.ledger import KernelRow


def row(state):
    return KernelRow("k", "s", state, {}, "d", 1.0, container="c")


def status(presence=Presence.PRESENT, state=None, exit_status=None):
    return ContainerStatus("c", presence=presence, state=state, exit=exit_status)


RUNNING = status(state=ContainerState.RUNNING)
EXITED = status(state=ContainerState.EXITED, exit_status=ExitStatus(code=3))
INFERRED = status(state=ContainerState.EXITED, exit_status=ExitStatus(observed=False))
ABSENT = status(Presence.ABSENT)
UNKNOWN = status(Presence.UNKNOWN)


@pytest.mark.parametrize(
    ("state", "sighting", "rebooted", "verdict", "reason"),
    [
        ("RUNNING", RUNNING, False, Verdict.ADOPT, None),
        ("RUNNING", UNKNOWN, False, Verdict.ADOPT, None),
        ("RUNNING", UNKNOWN, True, Verdict.ADOPT, None),
        ("RUNNING", None, False, Verdict.ADOPT, None),
        ("RUNNING", EXITED, False, Verdict.END, Reason.SELF_TERMINATED),
        ("RUNNING", INFERRED, True, Verdict.END, Reason.REBOOTED),
        ("RUNNING", ABSENT, False, Verdict.END, Reason.CONTAINER_NOT_FOUND),
        ("RUNNING", ABSENT, True, Verdict.END, Reason.REBOOTED),
        ("PREPARING", RUNNING, False, Verdict.END, Reason.CREATE_INTERRUPTED),
        ("PREPARING", None, False, Verdict.END, Reason.CREATE_INTERRUPTED),
        ("TERMINATING", RUNNING, False, Verdict.FINISH, None),
        ("TERMINATED", ABSENT, False, Verdict.FINISH, None),
    ],
)
def test_each_case_has_its_verdict(state, sighting, rebooted, verdict, reason):
    action = plan(row(state), sighting, rebooted=rebooted)
    assert action.verdict is verdict
    assert (action.ending.reason if action.ending else None) == reason
    assert action.because


def test_the_exit_code_that_was_seen_is_kept():
    action = plan(row("RUNNING"), EXITED, rebooted=False)
    assert action.ending is not None
    assert action.ending.exit == ExitStatus(code=3)


@given(
    st.sampled_from([s.value for s in KernelState if s is not KernelState.RESTARTING]),
    st.sampled_from([None, RUNNING, UNKNOWN]),
    st.booleans(),
)
def test_a_running_kernel_is_never_ended_on_ignorance(state, sighting, rebooted):
    action = plan(row(state), sighting, rebooted=rebooted)
    if state == KernelState.RUNNING:
        assert action.verdict is Verdict.ADOPT
    assert action == plan(row(state), sighting, rebooted=rebooted)
