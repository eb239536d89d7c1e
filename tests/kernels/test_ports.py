"""Ports of kernels: chosen before they are written, held until the container is proven gone."""

import asyncio
import contextlib
import socket
from dataclasses import replace

import pytest

from agent_core.contracts.backend import PublishedPort
from agent_core.contracts.errors import InvalidConfig, InvalidSpec, NoFreePort
from agent_core.kernels.ports import PortPool, find_obstacle, open_pool
from agent_core.kernels.published import environment
from agent_core.ledger import Commit

from .conftest import until

WEB = "web:http:8080"
TWO = "web:http:8080,tb:tcp:6006"
CONTAINER = "t.k.1.main.0"
REST = 60.0
SPOILT = Commit("test-port-spoilt", "a port is spoilt")


def ports_of(world, kernel_id="k"):
    return sorted(port for port, holder in world.services.ports.held.items() if holder == kernel_id)


async def start(world, kernel_id="k", ports=WEB):
    await world.create(kernel_id, ports=ports)
    row = await world.kernels.wait(kernel_id, ["RUNNING"])
    assert row.state == "RUNNING", await world.row(kernel_id)


async def end(world, kernel_id="k"):
    await world.kernels.destroy(kernel_id, "tired")
    await world.ended(kernel_id)


@contextlib.contextmanager
def listener():
    """A program of somebody else that listens on this node."""
    with socket.socket() as stranger:
        stranger.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        stranger.bind(("127.0.0.1", 0))
        stranger.listen()
        yield stranger.getsockname()[1]


# ---- a kernel's life ---------------------------------------------------------------------------


def test_a_kernel_has_a_port_of_the_node_for_each_of_its_own(live):
    async def body(world):
        await start(world, ports="web:http:8080,tb:tcp:[6006,6007]")
        detail = await world.kernels.show("k")
        assert [(p.name, p.protocol, p.container_port, p.address) for p in detail.ports] == [
            ("web", "http", 8080, "127.0.0.1:30000"),
            ("tb", "tcp", 6006, "127.0.0.1:30001"),
            ("tb", "tcp", 6007, "127.0.0.1:30002"),
        ]
        holds = await world.holds()
        assert [holds["port", str(port)] for port in ports_of(world)] == ["held"] * 3

    live(body)


def test_the_backend_and_the_record_are_told_of_every_port(live):
    async def body(world):
        await start(world)
        spec = world.backend.specs[CONTAINER]
        assert spec.ports == (PublishedPort("web", "http", 8080, 30000, "127.0.0.1"),)
        told = {"name": "web", "protocol": "http", "container_port": 8080}
        (hold,) = [hold for hold in spec.record["holds"] if hold["kind"] == "port"]
        assert hold["key"] == "30000"
        assert hold["undo"] == {**told, "host_port": 30000, "host_ip": "127.0.0.1"}

    live(body)


def test_the_processes_learn_on_which_ports_they_have_to_listen(live):
    async def body(world):
        await start(world)
        env = world.backend.specs[CONTAINER].env
        assert env["BACKENDAI_SERVICE_PORTS"] == "web:http:30000"
        assert env["BACKENDAI_PORT_WEB"] == "30000"
        assert env["BACKENDAI_SERVICE_HOST"] == "127.0.0.1"

    live(body)


def test_where_ports_are_mapped_the_processes_listen_on_their_own():
    ports = [
        PublishedPort("my-app", "http", 8080, 30000, "127.0.0.1"),
        PublishedPort("tb", "tcp", 6006, 30001, "127.0.0.1"),
        PublishedPort("tb", "tcp", 6007, 30002, "127.0.0.1"),
    ]
    assert environment(ports, mapped=True) == {
        "BACKENDAI_SERVICE_PORTS": "my-app:http:8080,tb:tcp:[6006,6007]",
        "BACKENDAI_SERVICE_HOST": "0.0.0.0",
        "BACKENDAI_PORT_MY_APP": "8080",
        "BACKENDAI_PORT_TB": "6006,6007",
    }
    assert environment([], mapped=True) == {}


def test_a_kernel_that_publishes_nothing_holds_no_port_and_is_told_of_none(live):
    async def body(world):
        await world.running()
        assert world.services.ports.held == {}
        assert not any("_PORT" in name for name in world.backend.specs[CONTAINER].env)
        assert (await world.kernels.show("k")).ports == []

    live(body)


def test_an_image_publishes_too_and_what_it_may_not_is_a_warning(live):
    async def body(world):
        world.backend.labels = {"ai.backend.service-ports": "web:http:9999,tb:tcp:6006,x:y"}
        await start(world)
        detail = await world.kernels.show("k")
        assert [(p.name, p.container_port) for p in detail.ports] == [("web", 8080), ("tb", 6006)]
        assert len(detail.warnings) == 2
        assert all("ai.backend.service-ports" in warning for warning in detail.warnings)

    live(body)


def test_a_fault_of_the_ports_is_a_fault_of_the_specification(live):
    async def body(world):
        with pytest.raises(InvalidSpec, match="port 80 is not between"):
            await world.create(ports="web:http:80")
        assert await world.holds() == {}

    live(body)


# ---- given back --------------------------------------------------------------------------------


def test_a_port_that_is_given_back_rests_before_it_is_given_again(live):
    async def body(world):
        world.ports = range(30000, 30001)
        await world.crash()
        await world.start()
        await start(world)
        await end(world)
        await world.clean()
        with pytest.raises(NoFreePort) as caught:
            await world.create("l", ports=WEB)
        assert caught.value.details["cooling"] == 1
        assert caught.value.details["retry_after"] == REST
        world.seconds += REST
        await start(world, "l")
        assert ports_of(world, "l") == [30000]

    live(body)


def test_the_port_that_was_free_for_the_longest_time_comes_first(live):
    async def body(world):
        for number in range(5):
            await start(world, f"k{number}")
            (port,) = ports_of(world, f"k{number}")
            assert port == 30000 + number % 4
            await end(world, f"k{number}")
            world.seconds += REST

    live(body)


@pytest.mark.parametrize(
    "method", ["scratch", "prepare aa", "create", "created", "start", "verify"]
)
def test_whatever_step_fails_later_the_ports_are_free_again(live, method):
    async def body(world):
        world.script.fail(method, times=1)
        await world.create(ports=TWO)
        await world.ended()
        await world.clean()
        assert world.services.ports.held == {}
        world.seconds += REST
        world.services.ports.check(4)

    live(body)


def test_a_destroy_in_the_middle_gives_the_ports_back(live):
    async def body(world):
        gate = world.script.gate("create")
        await world.create(ports=TWO)
        await gate.reached.wait()
        assert ports_of(world) == [30000, 30001]
        destroying = asyncio.ensure_future(world.kernels.destroy("k", "tired"))
        await until(lambda: world.owners.get("k")._ending.done())
        gate.open()
        await destroying
        await world.ended()
        await world.clean()

    live(body)


def test_a_port_stays_held_until_its_container_is_proven_gone(live):
    async def body(world):
        await start(world)
        world.script.fail("remove")
        await world.kernels.destroy("k", "tired")
        await world.held_as("dirty", "container", CONTAINER)
        assert ports_of(world) == [30000]
        assert ("port", "30000") in await world.holds()
        world.script.heal()
        await world.ended()
        await world.clean()

    live(body)


@pytest.mark.parametrize("side", ["before", "after"])
def test_ports_whose_holds_cannot_be_written_are_free_once_that_is_certain(live, fail_commit, side):
    async def body(world):
        fail_commit(f"commit.holds-taking.{side}", 1)
        await world.create(ports=TWO)
        assert (await world.ended()).reason == "failed-to-create"
        await world.clean()

    live(body)


def test_a_port_is_not_free_before_the_end_is_durable(live, fail_commit):
    async def body(world):
        await start(world)
        tries = fail_commit("commit.kernel-terminated.before", 1, 2, 3)
        pool, seen = world.services.ports, []
        release = pool.release

        def watched(kernel_id, port):
            seen.append(tries["commit.kernel-terminated.before"])
            release(kernel_id, port)

        pool.release = watched
        await end(world)
        await world.clean()
        assert min(seen) == 4

    live(body)


def test_a_late_word_of_a_free_port_takes_it_from_nobody_else(live):
    async def body(world):
        await start(world)
        (hold,) = [h for h in await world.ledger.read(lambda tx: tx.holds()) if h.kind == "port"]
        step = world.owners._steps[2]
        assert step.kind == "port"
        await end(world)
        world.seconds += REST
        world.services.ports.restore("l", 30000)
        step.freed(hold)
        assert world.services.ports.held == {30000: "l"}
        world.services.ports.release("l", 30000)

    live(body)


# ---- not to be had -----------------------------------------------------------------------------


def test_ports_that_are_not_free_are_a_refusal_with_every_reason(live):
    async def body(world):
        world.foreign = {30000}
        await start(world, "a", "x:tcp:[5000,5001]")
        await start(world, "b")
        await end(world, "b")
        with pytest.raises(NoFreePort) as caught:
            await world.create(ports=WEB)
        assert caught.value.retryable
        assert caught.value.hint
        assert caught.value.details == {
            "range": [30000, 30003],
            "wanted": 1,
            "held": 2,
            "cooling": 1,
            "foreign": [30000],
            "retry_after": 10.0,
        }
        assert await world.row() is None

    live(body)


def test_more_ports_than_there_are_is_refused_with_another_hint(live):
    async def body(world):
        with pytest.raises(NoFreePort, match="5 ports are not free") as caught:
            await world.create(ports="x:tcp:[5000,5001,5002,5003,5004]")
        assert caught.value.details["retry_after"] is None
        assert "fewer" in caught.value.hint

    live(body)


def test_a_plan_is_refused_as_the_create_would_be(live):
    async def body(world):
        spec = {"image": "python", "slots": {}, "ports": "x:tcp:[5000,5001,5002,5003,5004]"}
        with pytest.raises(NoFreePort):
            await world.kernels.plan(spec)

    live(body)


def test_a_kernel_that_gets_less_than_it_needs_gets_nothing(live):
    async def body(world):
        gate = world.script.gate("inspect_image")
        for name in ("a", "b"):
            await world.create(name, ports="x:tcp:[5000,5001,5002]")
        await gate.reached.wait()
        gate.open()
        rows = [await world.kernels.wait(name, ["RUNNING"]) for name in ("a", "b")]
        states = {row.state: row.kernel_id for row in rows}
        assert len(ports_of(world, states["RUNNING"])) == 3
        failed = await world.row(states["TERMINATED"])
        assert failed.reason == "failed-to-create"
        assert "3 ports are not free" in failed.message
        assert len(world.services.ports.held) == 3

    live(body)


def test_kernels_at_once_never_share_a_port(live):
    async def body(world):
        world.ports = range(30000, 30012)
        await world.crash()
        await world.start()
        names = [f"k{number}" for number in range(4)]
        gate = world.script.gate("inspect_image")
        creates = [world.create(name, ports="x:tcp:[5000,5001,5002]") for name in names]
        await asyncio.gather(*creates)
        gate.open()
        for name in names:
            await world.kernels.wait(name, ["RUNNING"])
        given = [port for name in names for port in ports_of(world, name)]
        assert sorted(given) == [*world.ports]

    live(body)


# ---- after a restart ---------------------------------------------------------------------------


def test_after_a_crash_a_running_kernel_has_its_ports_and_nobody_else_gets_them(live):
    async def body(world):
        await start(world, ports=TWO)
        before = (await world.kernels.show("k")).ports
        await world.crash()
        await world.start()
        assert world.faults == []
        assert ports_of(world) == [30000, 30001]
        assert (await world.kernels.show("k")).ports == before
        await start(world, "l", TWO)
        assert ports_of(world, "l") == [30002, 30003]
        for kernel in ("k", "l"):
            await end(world, kernel)
        await world.clean("k")

    live(body)


@pytest.mark.parametrize("crash", [False, True])
def test_a_restart_keeps_the_ports_whatever_its_image_says_by_then(live, crash):
    async def body(world):
        await start(world, ports=TWO)
        before = (await world.kernels.show("k")).ports
        if crash:
            await world.crash()
            await world.start()
        world.backend.labels = {"ai.backend.service-ports": "more:tcp:7000"}
        await world.kernels.restart("k", None)
        row = await world.kernels.wait("k", ["RUNNING"])
        assert (row.state, row.incarnation) == ("RUNNING", 2)
        assert (await world.kernels.show("k")).ports == before
        spec = world.backend.specs["t.k.2.main.0"]
        assert [port.host_port for port in spec.ports] == [30000, 30001]
        assert spec.env["BACKENDAI_SERVICE_PORTS"] == "web:http:30000,tb:tcp:30001"
        await end(world)
        await world.clean()

    live(body)


@pytest.mark.parametrize("method", ["scratch", "create", "start"])
def test_after_a_crash_in_a_create_its_ports_are_given_back(live, method):
    async def body(world):
        gate = world.script.gate(method)
        await world.create(ports=TWO)
        await gate.reached.wait()
        crashing = asyncio.ensure_future(world.crash())
        gate.open()
        await crashing
        await world.start()
        assert (await world.ended()).reason == "create-interrupted"
        await world.clean()
        assert world.services.ports.held == {}

    live(body)


def test_a_dirty_port_is_restored_and_never_free(live):
    async def body(world):
        await start(world)
        step = world.owners._steps[2]

        async def fails(hold):
            raise OSError("not today")

        step.give_back = fails
        await end(world)
        assert (await world.holds()) == {("port", "30000"): "dirty"}
        assert ports_of(world) == [30000]
        await world.crash()
        await world.start()
        await world.idle()
        assert await world.holds() == {}
        assert ports_of(world) == []

    live(body, retry_first=60)


def test_a_kernel_keeps_a_port_that_the_range_has_no_more(live):
    async def body(world):
        await start(world)
        await world.crash()
        world.ports = range(40000, 40001)
        await world.start()
        assert ports_of(world) == [30000]
        await start(world, "l")
        assert ports_of(world, "l") == [40000]
        await end(world)
        assert world.services.ports.held == {40000: "l"}
        await end(world, "l")

    live(body)


def test_a_row_that_is_no_port_is_told_and_keeps_nobody_from_starting(live):
    async def body(world):
        await start(world)

        def spoil(tx):
            (hold,) = [each for each in tx.holds() if each.kind == "port"]
            tx.drop_holds([hold])
            tx.put_holds([replace(hold, key="many")])

        await world.ledger.write(SPOILT, spoil)
        await world.crash()
        await world.start()
        assert len(world.faults) == 1
        assert "port many" in world.faults[0]
        await end(world)
        await world.clean()

    live(body)


# ---- looking at a port -------------------------------------------------------------------------


def test_what_a_stranger_listens_on_is_passed_over_and_given_once_it_is_free():
    now = 0.0
    with listener() as port:
        pool = PortPool(range(port, port + 1), now=lambda: now)
        with pytest.raises(NoFreePort) as caught:
            pool.take("k", 1)
        assert caught.value.details["foreign"] == [port]
    now += caught.value.details["retry_after"]
    assert pool.take("k", 1) == (port,)


def test_a_connection_that_is_closing_is_no_obstacle():
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        client = socket.create_connection(("127.0.0.1", port))
        accepted, _ = server.accept()
        # Who closes first is the one that waits.
        accepted.close()
        assert client.recv(1) == b""
        client.close()
    with socket.socket() as careless, pytest.raises(OSError, match="in use"):
        careless.bind(("127.0.0.1", port))
    assert find_obstacle("127.0.0.1", port) is None


def test_an_address_of_another_node_is_a_fault_of_the_configuration():
    pool = PortPool(range(30000, 30001), host="192.0.2.1")
    assert "192.0.2.1" in pool.fault()
    with pytest.raises(InvalidConfig, match="bind-host"):
        pool.take("k", 1)
    assert pool.held == {}


def test_an_address_of_this_node_has_no_fault():
    assert PortPool(range(30000, 30001)).fault() is None


def test_a_name_is_looked_up_once_at_the_start():
    pool = asyncio.run(open_pool(range(30000, 30010), "localhost", 60))
    assert pool.host in ("127.0.0.1", "::1")
    asyncio.run(open_pool(range(30000, 30010), "::1", 60))


def test_a_name_that_nobody_knows_is_a_fault_of_the_configuration():
    with pytest.raises(InvalidConfig, match=r"no\.such\.host\.invalid"):
        asyncio.run(open_pool(range(30000, 30010), "no.such.host.invalid", 60))


# ---- the ledger against the pool ---------------------------------------------------------------


def test_a_port_that_the_pool_and_the_ledger_disagree_on_is_a_leak(live):
    async def body(world):
        await start(world, ports=TWO)
        pool = world.services.ports
        assert await world.leaks() == []
        pool.restore("nobody", 40000)
        pool.release("k", 30001)
        leaks = {leak.key: (leak.kind, leak.kernel_id, leak.detail) for leak in await world.leaks()}
        assert leaks == {
            "40000": ("port", "nobody", "by the pool of ports"),
            "30001": ("port", "k", "the ledger holds it, the pool of ports does not know it"),
        }
        pool.restore("k", 30001)
        pool.release("nobody", 40000)
        await end(world)
        await world.clean()

    live(body)
