"""A real engine that answers wrongly, late or not at all, and containers that do their worst."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter

import pytest
from servers.engine import BUSYBOX
from servers.proxy import broken_after, saying

from agent_core.client import AgentClient
from agent_core.contracts.errors import Conflict, KernelFailed

from .docker_node import DEADLINE

pytestmark = [pytest.mark.requires("docker"), pytest.mark.timeout(120)]

SPEC = {"image": BUSYBOX, "slots": {"mem": "16m"}}
EVENTS = ("GET", r"/events\?")


def create_of(kernel):
    return "POST", rf"/containers/create\?.*{kernel}"


def start_of(kernel):
    return "POST", rf"/containers/[^/]*{kernel}[^/]*/start"


def remove_of(kernel):
    return "DELETE", rf"/containers/[^/]*{kernel}"


def all_at_once(node, method, *arguments, timeout=None):
    """Call a method of the client once for each argument; list the answers in their order."""

    async def ask(agent):
        calls = (
            getattr(agent, method)(*each, timeout=timeout) for each in zip(*arguments, strict=True)
        )
        return await asyncio.gather(*calls)

    return node.talk(ask)


def create_all(node, kernels):
    all_at_once(node, "create_kernel", [{**SPEC, "kernel_id": kernel} for kernel in kernels])


def settled(node, kernels):
    """The kernels by the state in which they run or have ended, with the reason."""
    wanted = [["RUNNING"]] * len(kernels)
    rows = all_at_once(node, "wait_kernel", kernels, wanted, timeout=DEADLINE)
    found = {}
    for row in rows:
        found.setdefault(row.reason or row.state, set()).add(row.kernel_id)
    return found


def destroy_all(node, kernels):
    all_at_once(node, "destroy_kernel", kernels)
    return [node.ended(kernel) for kernel in kernels]


def assert_all_live(node, kernels):
    for kernel in kernels:
        assert node.run(kernel, "echo alive")[0] == "alive\n"


def assert_told_once(node, kernels):
    told = Counter(event.kernel_id for event in node.events() if event.name == "kernel.terminated")
    assert {kernel: told[kernel] for kernel in kernels} == dict.fromkeys(kernels, 1)


# ---- creates -----------------------------------------------------------------------------------


def test_an_agent_that_is_ended_among_its_creates_has_kept_or_undone_each(docker):
    node = docker()
    node.start()
    kernels = [f"many-{number}" for number in range(10)]
    create_all(node, kernels)
    node.ask("wait_kernel", kernels[0], ["RUNNING"], timeout=DEADLINE)
    assert node.end(signal.SIGTERM) == 0
    node.start()
    found = settled(node, kernels)
    running = found["RUNNING"]
    assert kernels[0] in running
    assert found.get("create-interrupted", set()) == {*kernels} - running
    assert len(node.containers()) == len(running)
    assert_all_live(node, running)
    destroy_all(node, running)
    assert_told_once(node, kernels)
    node.nothing_is_left()


def test_the_same_create_from_three_at_once_is_one_container(docker):
    node = docker()
    node.start()
    spec = {**SPEC, "kernel_id": "same"}

    async def create():
        async with AgentClient(str(node.socket)) as agent:
            return await agent.create_kernel(spec)

    async def from_three():
        return await asyncio.gather(*(create() for _ in range(3)))

    first, *others = asyncio.run(from_three())
    assert others == [first, first]
    node.ask("wait_kernel", "same", ["RUNNING"], timeout=DEADLINE)
    with pytest.raises(Conflict):
        node.ask("create_kernel", {**spec, "slots": {"mem": "32m"}})
    assert len(node.containers()) == 1
    node.destroy("same")
    assert_told_once(node, ["same"])
    node.nothing_is_left()


def test_a_start_that_hangs_keeps_no_other_waiting_nor_its_own_destroy(docker, proxies):
    proxy = proxies()
    node = docker(host=proxy.socket)
    node.start()
    hung = {kernel: proxy.hold(*start_of(kernel)) for kernel in ("hung", "unwanted")}
    create_all(node, hung)
    for hold in hung.values():
        hold.await_request()
    others = ["one", "two", "three"]
    create_all(node, others)
    assert settled(node, others) == {"RUNNING": {*others}}
    assert_all_live(node, others)
    assert node.destroy("unwanted").reason == "user-requested"
    assert node.ask("get_kernel_status", "hung").state == "PREPARING"
    hung["hung"].end()
    assert settled(node, [*hung]) == {"RUNNING": {"hung"}, "user-requested": {"unwanted"}}
    destroy_all(node, ["hung", *others])
    assert_told_once(node, [*hung, *others])
    node.nothing_is_left()


def test_what_an_engine_did_and_would_not_say_is_found_or_undone(docker, proxies):
    proxy = proxies()
    node = docker(host=proxy.socket)
    node.start()
    faults = {
        "created": (create_of, saying(500, "out of cheese")),
        "created-and-lost": (create_of, broken_after),
        "refused": (create_of, saying(500, "out of cheese", done=False)),
        "started": (start_of, saying(500, "out of cheese")),
        "started-and-lost": (start_of, broken_after),
        "removed": (remove_of, saying(500, "out of cheese")),
        "removed-and-lost": (remove_of, broken_after),
        "kept": (remove_of, saying(500, "out of cheese", done=False)),
    }
    for kernel, (request, reply) in faults.items():
        proxy.take_over(*request(rf"\.{kernel}\."), reply, times=1)
    create_all(node, faults)
    whole = {"created", "created-and-lost", "removed", "removed-and-lost", "kept"}
    assert settled(node, [*faults]) == {
        "RUNNING": whole,
        "failed-to-create": {"refused"},
        "failed-to-start": {"started", "started-and-lost"},
    }
    assert_all_live(node, whole)
    assert {row.reason for row in destroy_all(node, whole)} == {"user-requested"}
    assert_told_once(node, faults)
    node.nothing_is_left()


# ---- ends --------------------------------------------------------------------------------------


def test_what_ends_while_the_events_are_lost_is_told_once_and_how_it_ended(docker, proxies):
    proxy = proxies()
    node = docker(host=proxy.socket)
    node.start()
    kernels = ["killed", "stopped", "removed", "later"]
    create_all(node, kernels)
    settled(node, kernels)
    lost = proxy.lose(*EVENTS)
    node.engine.docker("kill", node.container("killed"))
    node.engine.docker("stop", "-t", "5", node.container("stopped"))
    node.engine.docker("rm", "--force", node.container("removed"))
    rows = [node.ended(kernel) for kernel in kernels[:3]]
    assert [(row.reason, row.exit_code) for row in rows] == [
        ("self-terminated", 137),
        ("self-terminated", 0),
        ("container-not-found", None),
    ]
    again = proxy.take_over(*EVENTS)
    lost.end()
    again.await_request()
    node.engine.docker("kill", node.container("later"))
    assert node.ended("later").exit_code == 137
    assert_told_once(node, kernels)
    node.nothing_is_left()


def test_whoever_waits_for_code_in_a_container_that_goes_is_told(docker):
    node = docker()
    node.start()
    ways = {"killed": ("kill",), "removed": ("rm", "--force")}
    create_all(node, ways)
    settled(node, [*ways])

    async def wait(agent, kernel, way):
        async for item in agent.execute_code(kernel, "echo begun; sleep 600"):
            if getattr(item, "text", "") == "begun\n":
                await asyncio.to_thread(node.engine.docker, *way, node.container(kernel))

    for kernel, way in ways.items():
        with pytest.raises(KernelFailed, match=f"kernel {kernel} has ended"):
            node.talk(lambda agent, kernel=kernel, way=way: wait(agent, kernel, way))
        assert node.ended(kernel).exit_code == 137
    assert_told_once(node, ways)
    node.nothing_is_left()


# ---- containers that do their worst ------------------------------------------------------------


def test_a_fork_bomb_stays_in_its_container_and_ends_with_it(docker):
    node = docker(**{"pids-limit": 64})
    node.start()
    create_all(node, ["hostile", "honest"])
    settled(node, ["hostile", "honest"])

    async def detonate(agent):
        bomb = "bomb() { while :; do bomb & done; }; bomb"
        async for item in agent.execute_code("hostile", bomb):
            if "can't fork" in (getattr(item, "text", None) or ""):
                return
        raise AssertionError("it has not used up what it may have")

    node.talk(detonate)
    assert_all_live(node, ["honest"])
    destroy_all(node, ["hostile", "honest"])
    node.nothing_is_left()


def test_a_container_that_fills_the_disk_of_its_engine_stops_no_other(docker, own_engine):
    node = docker(on=own_engine(disk="64m"))
    node.start()
    # What is on a disk of this kind counts as memory of whoever writes it.
    hostile, honest = node.create(slots={"mem": "256m"}), node.create(**SPEC)
    said = node.run(hostile, "dd if=/dev/zero of=/tmp/all bs=1M")[1]
    assert "No space left on device" in said
    assert_all_live(node, [honest])
    refused = node.create(wait=False, **SPEC)
    assert node.ended(refused).reason == "failed-to-create"
    said = node.ask("get_kernel_status", refused).message
    assert "no space left on device" in said
    assert "Free space under" in said
    node.destroy(hostile)
    again = node.create(**SPEC)
    assert_all_live(node, [honest, again])
    destroy_all(node, [honest, again])
    node.nothing_is_left()
