"""Calls are answered with the service's result or a typed error, and the server serves on."""

import asyncio
import logging

import pytest

from agent_core.contracts.errors import (
    InternalError,
    InvalidArgument,
    MalformedFrame,
    NotFound,
    Unauthorized,
    UnknownMethod,
)
from agent_core.server.dispatcher import Dispatcher
from agent_core.wire import methods
from agent_core.wire import models as m
from agent_core.wire import params as p
from agent_core.wire.roles import Role


def test_every_typed_method_reaches_its_service(agent):
    async def run():
        async with agent() as a, a.client() as client:
            assert await client.ping("hello") == "hello"
            assert (await client.get_status()).agent_id == "a"
            assert [row.name for row in await client.list_plugins()] == ["mock"]
            assert (await client.get_plugin("mock")).distribution == "accel-mock"
            assert await client.list_devices() == []
            assert await client.list_slots() == []
            created = await client.create_kernel({"kernel_id": "k9"})
            assert created == m.Created(kernel_id="k9", session_id="s1", state="PREPARING")
            assert await client.list_kernels() == []
            assert len(await client.list_kernels(include_ended=True)) == 1
            assert (await client.get_kernel_status("k1")).runner == "none"
            assert (await client.destroy_kernel("k1", "because")).reason == "because"
            await client.send_input("k1", "r1", "yes\n")
            await client.interrupt_kernel("k1")
            assert a.services.inputs == [("k1", "r1", "yes\n"), ("k1", None)]
            assert await client.complete_code("k1", "pr", 2) == ["print", "property"]
            assert (await client.get_config())["agent"] == {"id": "a"}
            a.services.release.set()
            assert (await client.wait_kernel("k1", ["RUNNING"])).state == "RUNNING"
            logs = [item.data async for item in client.get_logs("k1")]
            assert logs == [b"\xff\x00first"]
            events = [item async for item in client.watch_events(since="1-0")]
            assert [event.data for event in events] == [{"since": "1-0"}]
            run = [item async for item in client.execute_code("k1", "6*7", run_id="r7")]
            assert run == [
                m.OutputItem(kind="output", stream="stdout", text="42\n"),
                m.RunResult(run_id="r7", status="finished", exit_code=0),
            ]

    asyncio.run(run())


def test_a_method_can_be_called_by_its_name(agent):
    async def run():
        async with agent() as a, a.client() as client:
            assert await client.call("ping", {"text": "hi"}) == m.Pong(text="hi")
            assert await client.call(methods.PING, p.Ping(text="ho")) == m.Pong(text="ho")

    asyncio.run(run())


def test_an_unknown_method_is_refused_with_a_suggestion_and_the_server_serves_on(agent):
    async def run():
        async with agent() as a, a.client() as client, a.raw() as raw:
            await raw.request(1, "pink")
            frame = await raw.receive()
            assert frame.error["code"] == "unknown-method"
            assert frame.error["hint"] == "Did you mean ping?"
            with pytest.raises(UnknownMethod):
                await client.call("pink")
            assert await client.ping("still") == "still"
            assert a.server.counters.refused == {"unknown-method": 1}

    asyncio.run(run())


def test_wrong_parameters_are_refused_with_every_fault(agent):
    async def run():
        async with agent() as a, a.client() as client:
            with pytest.raises(InvalidArgument) as caught:
                await client.call(
                    "destroy_kernel",
                    {"kernel_id": "", "reason": "Not A Slug", "forced": True},
                )
            faults = caught.value.details["faults"]
            assert [fault.split(":")[0] for fault in faults] == ["kernel_id", "reason", "forced"]
            assert "unknown parameter" in faults[2]
            for fault in faults:
                assert fault in caught.value.message
            assert "kernel_id, reason" in str(caught.value.hint)
            with pytest.raises(InvalidArgument, match="valid string"):
                await client.call("ping", {"text": 5})

    asyncio.run(run())


def test_a_typed_error_of_a_service_arrives_as_its_own_class(agent):
    async def run():
        async with agent() as a, a.client() as client:
            with pytest.raises(NotFound, match="no plugin 'nix'") as caught:
                await client.get_plugin("nix")
            assert caught.value.details == {"name": "nix"}
            assert caught.value.hint == NotFound.hint
            assert a.server.counters.methods["get_plugin"].failures == {"not-found": 1}

    asyncio.run(run())


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("get_plugin", {"name": "broken"}),
        ("get_plugin", {"name": "exit"}),
        ("list_leaks", {}),
        ("list_images", {}),
    ],
)
def test_any_other_exception_is_logged_and_told_without_its_content(agent, caplog, method, params):
    async def run():
        async with agent() as a, a.client() as client:
            with pytest.raises(InternalError) as caught:
                await client.call(method, params)
            assert "secret" not in caught.value.message
            assert await client.ping("still") == "still"
            assert a.server.counters.defects == 1

    with caplog.at_level(logging.ERROR, "agent_core.server"):
        asyncio.run(run())
    assert "Traceback" in caplog.text


def test_an_answer_that_is_too_long_is_a_typed_error(agent):
    async def run():
        async with agent() as a, a.client() as client:
            a.services.sent = 5 << 20
            with pytest.raises(MalformedFrame, match="are the most"):
                await client.get_config()

    asyncio.run(run())


def test_a_request_that_is_too_long_is_refused_before_it_leaves(agent):
    async def run():
        async with agent() as a, a.client() as client:
            with pytest.raises(MalformedFrame, match="are the most"):
                await client.create_kernel({"kernel_id": "k", "data": "x" * (5 << 20)})
            assert await client.ping("still") == "still"

    asyncio.run(run())


def test_many_calls_of_several_clients_at_once_get_each_its_own_answer(agent):
    async def ask(client, number):
        return await client.ping(f"{number}")

    async def run():
        async with agent() as a, a.client() as one, a.client() as two:
            answers = await asyncio.gather(
                *(
                    ask(client, f"{name}{i}")
                    for i in range(200)
                    for name, client in (("a", one), ("b", two))
                )
            )
            assert answers == [f"{name}{i}" for i in range(200) for name in "ab"]
            assert a.server.counters.methods["ping"].requests == 402
            assert sum(a.server.counters.methods["ping"].buckets) == 402

    asyncio.run(run())


def test_a_role_admits_what_it_includes_and_nothing_above():
    class Nothing:
        execute = None

        def status(self):
            return "the status"

    dispatcher = Dispatcher(Nothing(), Nothing(), Nothing(), Nothing())

    assert dispatcher.dispatch(methods.GET_STATUS, {}, Role.READ) == "the status"
    for method in (methods.CREATE_KERNEL, methods.GET_CONFIG):
        with pytest.raises(Unauthorized) as caught:
            dispatcher.dispatch(method, {}, Role.READ)
        assert caught.value.details == {"needs": method.role.name.lower(), "has": "read"}
