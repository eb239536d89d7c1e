"""Engines that hang, stop, restart, answer wrongly or in doubt."""

from __future__ import annotations

import asyncio
import signal
from contextlib import aclosing
from dataclasses import replace

import pytest
from agent_backend_docker.backend import DockerBackend
from agent_backend_docker.engine import Engine
from agent_backend_docker.turns import Turns
from servers.proxy import broken_after, saying

from agent_core.contracts.backend import ContainerState, Presence
from agent_core.contracts.errors import (
    Conflict,
    KernelFailed,
    PluginTimeout,
    PluginUnavailable,
)
from agent_core.testing.backend_bench import Bench, Setting

pytestmark = pytest.mark.requires("docker")

STAY = ("/bin/sh", "-c", "trap 'exit 7' TERM; echo ready-to-go; sleep 600 & wait")


@pytest.fixture
def run(tmp_path):
    """Run a check with a bench on an engine's socket."""

    def run(check, socket, **options):
        config = {"host": f"unix://{socket}", "deadline": 5, **options}
        env = {"PATH": "/bin"}
        setting = Setting(DockerBackend, config, tmp_path, "busybox:latest", env, "/tmp", 100)
        setting.run(check)

    return run


async def drained(events):
    async for _ in events:
        pass


async def in_thread(function, *arguments):
    return await asyncio.get_running_loop().run_in_executor(None, function, *arguments)


def test_an_engine_that_hangs_makes_nothing_known_and_nothing_wait_for_ever(own_engine, run):
    engine = own_engine()

    async def check(bench: Bench):
        spec = await bench.ready(STAY)
        engine.hang()
        try:
            seen = await bench.inspect(spec)
            assert seen.presence is Presence.UNKNOWN
            assert "not answered" in seen.reason
            with pytest.raises(PluginTimeout):
                await bench.backend.list(bench.owner)
        finally:
            engine.go_on()
        assert (await bench.inspect(spec)).state is ContainerState.RUNNING

    run(check, engine.socket, deadline=0.5)


@pytest.mark.parametrize("live_restore", [True, False])
def test_an_engine_that_is_stopped_and_started_is_the_same_to_its_client(
    own_engine, run, live_restore
):
    engine = own_engine(**{"live-restore": live_restore})

    async def check(bench: Bench):
        async with bench.events(None) as told:
            spec = await bench.ready(STAY)
            cursor = (await told(spec)).cursor
            assert ("go on" in bench.backend.facts()["restarts"]) is live_restore
        broken = asyncio.ensure_future(drained(bench.backend.events(cursor)))
        await asyncio.sleep(0)
        await in_thread(engine.stop_dockerd)
        with pytest.raises(PluginUnavailable):
            await broken
        seen = await bench.inspect(spec)
        assert seen.presence is Presence.UNKNOWN
        assert "answers no more" in seen.reason or "not there" in seen.reason
        await in_thread(engine.start_dockerd)
        seen = await bench.inspect(spec)
        if live_restore:
            assert seen.state is ContainerState.RUNNING
            await bench.backend.stop(spec.name, 10)
        async with bench.events(cursor) as told:
            while (event := await told(spec)).kind != "exited":
                pass
        assert event.exit is not None
        assert event.exit.code == 7
        assert (await bench.inspect(spec)).state is ContainerState.EXITED

    run(check, engine.socket)


def test_an_engine_that_was_killed_is_found_again_with_what_ran_in_it(own_engine, run):
    engine = own_engine(**{"live-restore": True})

    async def check(bench: Bench):
        spec = await bench.ready(STAY, record={"a": 1})
        before = replace(await bench.backend.handles(spec.name), pids=())  # it may start more
        await in_thread(engine.stop_dockerd, signal.SIGKILL)
        await in_thread(engine.start_dockerd)
        listed = await bench.backend.list(bench.owner)
        assert [(seen.name, seen.record) for seen in listed] == [(spec.name, {"a": 1})]
        assert replace(await bench.backend.handles(spec.name), pids=()) == before

    run(check, engine.socket)


def test_a_stream_of_events_in_which_nothing_happens_is_no_engine_that_hangs(engine):
    async def check():
        client = Engine(str(engine.socket), deadline=1.0)
        await client.open()
        filters = {"label": ["quiet=1"], "event": ["create"]}
        async with aclosing(client.stream("GET", "events", params={"filters": filters})) as events:
            first = asyncio.ensure_future(anext(events))
            done, _ = await asyncio.wait({first}, timeout=2 * client.deadline)
            assert done == set()
            words = ("create", "--label", "quiet=1", "busybox:latest", "true")
            made = await in_thread(engine.docker, *words)
            assert (await first)["Actor"]["ID"] == made
        await in_thread(engine.docker, "rm", made)
        await client.close()

    asyncio.run(check())


def test_no_engine_at_all_is_told_with_what_to_do(run, tmp_path):
    async def check(_):
        raise AssertionError("this backend should not have started")

    with pytest.raises(PluginUnavailable) as absent:
        run(check, tmp_path / "none.sock")
    assert "none.sock is not there" in absent.value.message
    assert "Start the engine" in str(absent.value.hint)


CREATE = ("POST", r"/containers/create\?")


@pytest.mark.parametrize("reply", [saying(500, "x"), saying(409, "x"), broken_after])
def test_a_create_that_was_refused_and_is_there_all_the_same_is_taken(proxies, run, reply):
    proxy = proxies()

    async def check(bench: Bench):
        proxy.take_over(*CREATE, reply)
        spec = await bench.started(STAY)
        assert (await bench.inspect(spec)).state is ContainerState.RUNNING
        with pytest.raises(Conflict):
            await bench.backend.create(replace(spec, argv=("/bin/true",)))

    run(check, proxy.socket)


def test_a_create_that_failed_and_is_not_there_is_told(proxies, run):
    proxy = proxies()

    async def check(bench: Bench):
        proxy.take_over(*CREATE, saying(500, "the disk is made of cheese", done=False))
        with pytest.raises(KernelFailed, match="made of cheese"):
            await bench.created(STAY)

    run(check, proxy.socket)


def test_a_start_has_a_deadline_of_its_own(proxies, run):
    proxy = proxies()

    async def check(bench: Bench):
        spec = await bench.created(STAY)
        proxy.hold("POST", f"/containers/{spec.name}/start")
        with pytest.raises(PluginTimeout, match=r"has not answered .* in 0.2 s"):
            await bench.backend.start(spec.name)

    run(check, proxy.socket, **{"slow-deadline": 0.2})


def test_what_takes_long_gives_its_turn_to_the_next():
    async def check():
        turns = Turns(1, patience=0.05)
        hang, began = asyncio.Event(), asyncio.Event()

        async def hanging():
            async with turns.turn():
                began.set()
                await hang.wait()

        slow = asyncio.create_task(hanging())
        await began.wait()
        async with asyncio.timeout(10), turns.turn():
            assert not slow.done()
        hang.set()
        await slow
        async with asyncio.timeout(10), turns.turn():
            assert slow.done()

    asyncio.run(check())
