"""The policy, as a table of cases and as laws that hold for every choice."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_core.config.selection import Selection
from agent_core.contracts.versions import CONTRACTS
from agent_core.host.candidates import Candidate
from agent_core.host.lists import is_intrinsic, matches
from agent_core.host.policy import Plan, decide, is_trusted
from agent_core.host.states import PluginState as S

CPU = Candidate("device", "cpu", 1, "agent_core.intrinsic.cpu", "agent-core", "0.1.0")
MEM = Candidate("device", "mem", 1, "agent_core.intrinsic.mem", "agent-core", "0.1.0")
CUDA = Candidate("device", "cuda", 1, "accel_cuda.plugin", "accel-cuda", "0.2.1")
PROCESS = Candidate(
    "backend", "process", 1, "agent_backend_process.plugin", "agent-backend-process", "0.1"
)
DOCKER = Candidate(
    "backend", "docker", 1, "agent_backend_docker.plugin", "agent-backend-docker", "0.3"
)
HOSTDIR = Candidate("scratch", "hostdir", 1, "scratch_hostdir.plugin", "scratch-hostdir", "0.1")
RUNNER = Candidate(
    "runner", "default", 1, "agent_kernel_runner.plugin", "agent-kernel-runner", "0.1"
)
NODE = (CPU, MEM, CUDA, PROCESS, DOCKER, HOSTDIR, RUNNER)


def states(plan: Plan) -> dict[str, S]:
    return {d.candidate.name: d.state for d in plan.decisions}


def decision(plan: Plan, name: str):
    return next(d for d in plan.decisions if d.candidate.name == name)


def test_by_default_everything_selected_may_load():
    plan = decide(NODE, Selection())
    assert [c.name for c in plan.allowed] == ["process", "cpu", "cuda", "mem", "default", "hostdir"]
    assert states(plan)["docker"] is S.NOT_SELECTED
    assert plan.notices == ()


@pytest.mark.parametrize(
    ("choice", "cuda", "process"),
    [
        ({}, S.FOUND, S.FOUND),
        ({"allow_devices": ()}, S.NOT_ALLOWED, S.FOUND),
        ({"allow_devices": ("cuda",)}, S.FOUND, S.FOUND),
        ({"allow_devices": ("Accel.CUDA",)}, S.FOUND, S.FOUND),
        ({"allow_devices": ("accel_cuda.plugin",)}, S.FOUND, S.FOUND),
        ({"allow_devices": ("accel_cuda",)}, S.FOUND, S.FOUND),
        ({"allow_devices": ("accel_cuda.plug",)}, S.NOT_ALLOWED, S.FOUND),
        ({"block_devices": ("cuda",)}, S.BLOCKED, S.FOUND),
        ({"block_devices": ("process",)}, S.FOUND, S.FOUND),
        ({"allow_devices": ("cuda",), "block_devices": ("cuda",)}, S.BLOCKED, S.FOUND),
        ({"allow": ()}, S.NOT_ALLOWED, S.NOT_ALLOWED),
        ({"allow": ("cuda", "process")}, S.FOUND, S.FOUND),
        ({"allow": ("process",), "allow_devices": ("cuda",)}, S.NOT_ALLOWED, S.FOUND),
        ({"block": ("agent-backend-process",)}, S.FOUND, S.BLOCKED),
        ({"backend": "docker"}, S.FOUND, S.NOT_SELECTED),
    ],
)
def test_the_lists_decide(choice, cuda, process):
    result = states(decide(NODE, Selection(**choice)))
    assert (result["cuda"], result["process"]) == (cuda, process)
    assert result["cpu"] is result["mem"] is S.FOUND


def test_modules_match_by_component():
    deep = CUDA._replace(value="vendor.accelerator.cuda_open:plugin")
    assert matches("vendor.accelerator.cuda_open", deep)
    assert matches("vendor.accelerator", deep)
    assert not matches("vendor.accel", deep)
    assert not matches("vendor.accelerator.cuda_open.more", deep)


def test_a_refusal_says_where_the_list_is_and_what_would_change_it():
    blocked = decision(decide(NODE, Selection(block_devices=("accel-cuda",))), "cuda")
    assert blocked.reason == "'accel-cuda' is in [agent] block-compute-plugins"
    assert "Take 'accel-cuda' out of [agent] block-compute-plugins" in blocked.hint
    assert [step.step for step in blocked.trail] == ["found", "kind", "block lists"]
    refused = decision(decide(NODE, Selection(allow=("process",))), "cuda")
    assert "not in [plugins] allow" in refused.reason
    assert "Add 'cuda' to [plugins] allow" in refused.hint


def test_the_trail_of_an_admitted_plugin_names_every_check_and_the_item_that_admitted_it():
    trail = decision(decide(NODE, Selection(allow_devices=("accel_cuda",))), "cuda").trail
    assert [step.step for step in trail] == [
        "found",
        "kind",
        "block lists",
        "allow lists",
        "selection",
        "contract",
        "core range",
        "name",
    ]
    assert "'accel_cuda' is in [agent] allow-compute-plugins" in trail[3].detail


@pytest.mark.parametrize(
    ("change", "reason", "hint"),
    [
        ({"contract": 2}, "contract v2; agent-core 0.1.5 speaks v1", "pip install -U agent-core"),
        ({"contract": 0}, "contract v0; agent-core 0.1.5 speaks v1", "pip install -U accel-cuda"),
        ({"kind": "devcie"}, "knows no kind 'devcie'", "Did you mean 'device'?"),
        ({"kind": "quantum"}, "knows no kind 'quantum'", "pip install -U agent-core"),
        ({"requires_core": ">=0.2,<0.3"}, "needs agent-core >=0.2,<0.3, and this is 0.1.5", "pip"),
        ({"requires_core": "<0.1"}, "accel-cuda 0.2.1 needs agent-core <0.1", "accel-cuda"),
    ],
)
def test_what_was_made_for_another_core_is_refused_with_both_ranges(change, reason, hint):
    odd = CUDA._replace(**change)
    refused = decision(decide((CPU, odd), Selection(), core_version="0.1.5"), "cuda")
    assert refused.state is S.WRONG_CONTRACT
    assert reason in refused.reason
    assert hint in refused.hint


def test_of_one_plugin_in_several_contracts_the_highest_that_is_spoken_wins():
    versions = [CUDA._replace(contract=v, value=f"accel_cuda.v{v}") for v in (1, 2, 3, 4)]
    plan = decide(versions, Selection(), contracts={"device": (2, 3)})
    assert [d.state for d in plan.decisions] == [
        S.WRONG_CONTRACT,
        S.WRONG_CONTRACT,
        S.FOUND,
        S.WRONG_CONTRACT,
    ]
    assert "superseded by v3" in plan.decisions[1].reason


def test_two_distributions_with_one_name_are_both_refused_and_both_named():
    fork = CUDA._replace(dist="cuda-fork", version="9", value="cuda_fork.plugin")
    plan = decide((fork, CUDA), Selection())
    assert [d.state for d in plan.decisions] == [S.DUPLICATE, S.DUPLICATE]
    for refused, other in zip(plan.decisions, reversed(plan.decisions), strict=True):
        assert other.candidate.origin in refused.reason
        assert f'block = ["{refused.candidate.dist}"]' in refused.hint
    resolved = decide((fork, CUDA), Selection(block=("cuda-fork",)))
    assert [d.state for d in resolved.decisions] == [S.FOUND, S.BLOCKED]


def test_the_same_declaration_found_twice_is_one_plugin():
    again = CUDA._replace(location="/elsewhere", dist="Accel_Cuda")
    plan = decide((CUDA, again), Selection())
    assert [d.state for d in plan.decisions] == [S.FOUND]


def test_one_distribution_that_declares_a_name_twice_is_its_authors_fault():
    plan = decide((CUDA, CUDA._replace(value="accel_cuda.other")), Selection())
    assert {d.state for d in plan.decisions} == {S.DUPLICATE}
    assert "author" in plan.decisions[0].hint


def test_nobody_takes_the_name_of_an_intrinsic_plugin():
    thief = CPU._replace(dist="cpu-thief", value="cpu_thief.plugin")
    plan = decide((CPU, thief), Selection())
    assert [(d.candidate.dist, d.state) for d in plan.decisions] == [
        ("agent-core", S.FOUND),
        ("cpu-thief", S.DUPLICATE),
    ]


def test_names_of_different_kinds_do_not_collide():
    plan = decide((CUDA, PROCESS._replace(name="cuda")), Selection(backend="cuda"))
    assert {d.state for d in plan.decisions} == {S.FOUND}


@pytest.mark.parametrize(
    ("choice", "severity", "message", "hint"),
    [
        ({"allow_devices": ("cudaa",)}, "warning", "'cudaa' in [agent] allow-compute", "'cuda'?"),
        ({"block": ("agent-backend-dokcer",)}, "warning", "matches no", "'agent-backend-docker'?"),
        ({"allow_devices": ("cuda", "xyz")}, "warning", "'xyz'", "Install the plugin"),
        ({"block_devices": ("docker",)}, "warning", "is a backend", "[plugins]"),
        ({"block": ("cpu",)}, "warning", "no effect", "Take it out"),
        ({"backend": "dokcer"}, "error", "installed: docker, process", "Did you mean 'docker'?"),
        ({"scratch": "memory"}, "error", "not installed", "pip install scratch-memory"),
        ({"block": ("process",)}, "error", "selected and cannot load", "Take 'process' out"),
    ],
)
def test_a_choice_that_cannot_be_meant_is_remarked_on(choice, severity, message, hint):
    (notice,) = decide(NODE, Selection(**choice)).notices
    assert notice.severity == severity
    assert message in notice.message
    assert hint in notice.hint


def test_a_bare_node_is_told_what_to_install():
    hints = " ".join(notice.hint for notice in decide((), Selection()).notices)
    for dist in ("agent-backend-process", "scratch-hostdir", "agent-kernel-runner"):
        assert f"pip install {dist}" in hints


# ---- laws --------------------------------------------------------------------------------------

names = st.sampled_from(["cpu", "cuda", "process", "hostdir", "default"])
dists = st.sampled_from(["agent-core", "accel-cuda", "Accel_Cuda", "fork", "agent-backend-process"])
candidates = st.lists(
    st.builds(
        Candidate,
        kind=st.sampled_from([*CONTRACTS, "stats"]),
        name=names,
        contract=st.integers(0, 3),
        value=st.sampled_from(["a.b", "a.bc", "accel_cuda.plugin:Hook"]),
        dist=dists,
        version=st.sampled_from(["1", "2"]),
        requires_core=st.sampled_from(["", ">=0.1", "<0.1"]),
    ),
    max_size=12,
)
items = st.lists(st.sampled_from(["cuda", "fork", "a", "a.b", "cpu", "nothing"]), max_size=3).map(
    tuple
)
selections = st.builds(
    Selection,
    backend=names,
    scratch=names,
    runner=names,
    allow_devices=st.none() | items,
    block_devices=items,
    allow=st.none() | items,
    block=items,
)


@given(candidates, selections, st.randoms(use_true_random=False))
def test_a_plan_depends_on_what_was_found_and_not_on_its_order(
    found, selection, order: random.Random
):
    shuffled = list(found)
    order.shuffle(shuffled)
    assert decide(shuffled, selection) == decide(found, selection)


@given(candidates, selections)
def test_every_candidate_has_one_decision_with_a_trail_that_ends_in_it(found, selection):
    plan = decide(found, selection)
    for each in plan.decisions:
        assert each.trail[0].step == "found"
        assert each.allowed != bool(each.reason)
        if not each.allowed:
            assert each.trail[-1].detail == each.reason
            assert each.hint


@given(candidates, selections)
def test_no_two_plugins_of_one_kind_and_name_ever_load(found, selection):
    allowed = [(c.kind, c.name) for c in decide(found, selection).allowed]
    assert len(allowed) == len(set(allowed))


@given(candidates, selections)
def test_what_loads_passed_every_list_and_is_spoken(found, selection):
    for candidate in decide(found, selection).allowed:
        assert candidate.contract in CONTRACTS[candidate.kind]
        if is_intrinsic(candidate):
            continue
        device = candidate.kind == "device"
        blocked = (*selection.block, *(selection.block_devices if device else ()))
        assert not any(matches(item, candidate) for item in blocked)
        for allow in (selection.allow, selection.allow_devices if device else None):
            assert allow is None or any(matches(item, candidate) for item in allow)
        if not device:
            assert candidate.name == getattr(selection, candidate.kind)


@given(candidates, selections, st.sampled_from(["cuda", "fork", "a", "accel-cuda"]))
def test_blocking_one_more_item_never_loads_a_plugin_that_the_item_names(found, selection, item):
    from dataclasses import replace

    stricter = replace(selection, block=(*selection.block, item))
    for candidate in decide(found, stricter).allowed:
        assert is_intrinsic(candidate) or not matches(item, candidate)


@given(candidates, selections)
def test_agent_cores_own_devices_always_load(found, selection):
    plan = decide([CPU, MEM, *found], selection)
    loaded = {(c.kind, c.name) for c in plan.allowed if c.dist == "agent-core"}
    ours = [c for c in found if is_intrinsic(c)]
    if not ours:
        assert {("device", "cpu"), ("device", "mem")} <= loaded


def test_only_the_core_and_the_backends_own_distribution_are_trusted_with_the_loop():
    scratch = HOSTDIR._replace(name="own", dist="Agent_Backend_Process")
    plan = decide([*NODE, scratch], Selection(scratch="own"))
    trusted = {c.name for c in (*NODE, scratch) if is_trusted(c, plan)}
    assert trusted == {"cpu", "mem", "process", "own"}
