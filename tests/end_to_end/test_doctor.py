"""`agentctl doctor` and `agentctl runner` as an operator uses them."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent_core.cli.doctor import compared, count_of
from agent_core.wire.models import GrantRow, KernelDetail


def found(node, *arguments, code=0):
    return {each["what"]: each for each in node.json("doctor", *arguments, code=code)}


def test_a_well_node_is_told_to_be_well_and_nothing_of_the_canary_is_left(node):
    node.start()
    said = found(node, "--image", "sh")
    assert {each["state"] for each in said.values()} == {"ok", "skipped"}
    assert said["environment"]["state"] == "ok"
    assert said["device cuda.device"]["state"] == "ok"
    assert said["memory"]["state"] == "skipped"
    assert said["canary is gone"]["state"] == "ok"
    node.clean()
    text = node.agentctl("doctor", "--image", "sh")
    assert "ok  canary runs: sh with" in text


def test_a_canary_that_cannot_live_fails_the_examination_with_the_reason(node):
    node.start()
    said = found(node, "--image", "no-such-image", code=1)
    assert said["canary"]["state"] == "failed"
    assert "no-such-image" in said["canary"]["detail"]
    said = found(node, "--image", "sh", "--slot", "cpu=9999", code=1)
    assert "cpu" in said["canary"]["detail"]
    node.clean()


def test_a_plugin_that_failed_fails_the_examination(node):
    text = node.config.read_text().replace("[plugin.mock]", "[plugin.mock]\nnonsense = 1")
    node.config.write_text(text)
    node.start()
    said = found(node, "--no-canary", code=1)
    assert said["plugin mock"]["state"] == "failed"
    assert "agentctl plugins why mock" in said["plugin mock"]["hint"]
    assert "canary" not in said


def test_a_node_without_an_agent_is_told_as_that(node):
    assert "agent" in node.agentctl("doctor", code=3)


DETAIL = {
    "kernel_id": "k",
    "session_id": "s",
    "state": "RUNNING",
    "image": "sh",
    "created_at": 0.0,
    "incarnation": 1,
    "reason": None,
    "exit_code": None,
}


def inside(slots=None, **changes):
    slots = {"mem": "64", "cpu": "1"} if slots is None else slots
    told = {"kernel": "k", "writable": "yes", "memory": "64", "cores": "0", **changes}
    pairs = [*told.items(), ("given", "CUDA_GLOBAL_DEVICE_IDS=0:GPU-1")]
    grants = [
        *(GrantRow(plugin=s, slot=s, device_id="0", amount=amount) for s, amount in slots.items()),
        GrantRow(plugin="cuda", slot="cuda.device", device_id="GPU-1", amount="1"),
    ]
    detail = KernelDetail.model_validate({**DETAIL, "grants": grants})
    return {each.what: each.state for each in compared(detail, pairs, bounds_memory=True)}


def test_what_was_not_asked_for_is_not_judged():
    assert inside(slots={"cpu": "0.5"})["cores"] == "skipped"
    said = inside(slots={})
    assert (said["cores"], said["memory"]) == ("skipped", "skipped")


def test_what_differs_from_what_was_given_is_found():
    assert set(inside().values()) == {"ok"}
    assert inside(memory="65")["memory"] == "failed"
    assert inside(memory="max")["memory"] == "failed"
    assert inside(cores="0-3")["cores"] == "failed"
    assert inside(kernel="another")["environment"] == "failed"
    assert inside(writable="")["scratch"] == "failed"


@pytest.mark.parametrize(("cores", "count"), [("", 0), ("3", 1), ("0-2,5", 4), ("0,2", 2)])
def test_lists_of_cores_are_counted(cores, count):
    assert count_of(cores) == count


# ---- the runner's bundle -----------------------------------------------------------------------


def bundle_of(node) -> Path:
    return Path(node.json("runner", "build")["path"])


@pytest.mark.timeout(120)
def test_the_runner_is_made_checked_and_mended_without_any_agent(node):
    assert node.json("runner", "check", code=1)["ok"] is False
    bundle = bundle_of(node)
    assert bundle.is_relative_to(node.state / "runner")
    assert bundle_of(node) == bundle
    assert node.json("runner", "check", "--full") == {
        "directory": str(node.state / "runner"),
        "ok": True,
        "faults": [],
    }
    (bundle / "bin" / "start").chmod(0o600)
    (bundle / "lib" / "extra").write_text("x")
    daemon = bundle / "lib" / "agent_kernel_runner" / "daemon" / "loop.py"
    daemon.write_bytes(daemon.read_bytes()[:-1] + b"#")
    faults = node.json("runner", "check", code=1)["faults"]
    assert [fault.partition(":")[0] for fault in faults] == ["lib/extra", "bin/start"]
    assert len(node.json("runner", "check", "--full", code=1)["faults"]) == 3
    assert "agentctl runner build" in node.agentctl("runner", "check", code=1)
    assert bundle_of(node) == bundle
    assert node.json("runner", "check", "--full")["ok"] is True


@pytest.mark.timeout(120)
def test_a_runner_elsewhere_is_made_there_and_a_place_that_cannot_be_written_is_told(node):
    place = node.root / "elsewhere"
    text = node.agentctl("runner", "build", "--force", "--directory", str(place))
    assert str(place) in text
    (node.root / "file").write_text("")
    said = node.agentctl("runner", "build", "--directory", str(node.root / "file"), code=1)
    assert "cannot be written" in said
    assert "agentctl runner build" in said
