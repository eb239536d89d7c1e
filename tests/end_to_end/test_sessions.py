"""Sessions of several kernels on a real node."""

import pytest

from agent_core.contracts.errors import InsufficientResource

SPEC = {"image": "python", "slots": {"mem": "16m"}}


def test_the_kernels_of_a_session_know_each_other_and_go_together(node):
    node.start()
    created = node.json(
        "sessions", "create", "--image", "python", "--slot", "mem=16m", "--size", "3"
    )
    kernels = [kernel["kernel_id"] for kernel in created["kernels"]]
    names = ("BACKENDAI_CLUSTER_HOST", "BACKENDAI_CLUSTER_HOSTS")
    code = f"import os; print(*(os.environ[name] for name in {names}))"
    said = [node.run(kernel, code)[0].split() for kernel in kernels]
    assert said == [[host, "main1,sub1,sub2"] for host in ("main1", "sub1", "sub2")]
    shown = node.ask("get_kernel_status", kernels[0])
    assert any("share the host's" in warning for warning in shown.warnings)
    assert created["session_id"] in node.agentctl("sessions", "list")
    node.agentctl("sessions", "destroy", created["session_id"])
    node.clean()


def test_where_one_kernel_does_not_fit_none_is_made(node):
    node.start()
    with pytest.raises(InsufficientResource, match="cpu"):
        node.ask("create_session", [SPEC, {"image": "python", "slots": {"cpu": "5000"}}])
    assert node.ask("list_sessions", include_ended=True) == []
    node.clean()


def test_a_kernel_that_cannot_be_created_ends_the_whole_session(node):
    node.start(AGENT_FAILPOINTS="effect.container-start.before=raise@2")
    created = node.ask("create_session", [SPEC, SPEC, SPEC], "s")
    reasons = sorted(
        node.ask("wait_kernel", kernel.kernel_id, ["TERMINATED"], timeout=30).reason
        for kernel in created.kernels
    )
    assert reasons == ["failed-to-start", "session-failed", "session-failed"]
    node.clean()
