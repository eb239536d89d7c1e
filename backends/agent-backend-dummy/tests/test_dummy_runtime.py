"""The simulated runtime against a dictionary, through any number of agents that come and go."""

from __future__ import annotations

import asyncio
import tempfile

import pytest
from agent_backend_dummy.backend import DummyBackend
from hypothesis import given, settings
from hypothesis import strategies as st

from agent_core.contracts.backend import ContainerSpec, ContainerState, Presence
from agent_core.contracts.errors import NotFound, WrongState

NAMES = st.sampled_from(["a", "b", "c"])
STEPS = st.lists(
    st.tuples(st.sampled_from(["create", "start", "stop", "kill", "remove", "killed"]), NAMES),
    max_size=25,
)
OF_EXIT = {"stop": 0, "kill": 137}


async def opened(directory):
    backend = DummyBackend()
    backend.open({})
    await backend.start_up("me", directory)
    return backend


async def step(backend, model, action, name):
    """Do one step to both."""
    if action == "create":
        await backend.create(ContainerSpec(name, "me", "python", (), {}, "/", record={"n": name}))
        model.setdefault(name, (ContainerState.CREATED, None))
    elif action == "start":
        await start(backend, model, name)
    elif action == "remove":
        await backend.remove(name)
        model.pop(name, None)
    else:
        await (backend.stop(name, 1) if action == "stop" else backend.kill(name))
        if model.get(name, (None,))[0] is ContainerState.RUNNING:
            model[name] = (ContainerState.EXITED, OF_EXIT[action])


async def start(backend, model, name):
    state = model.get(name, (None,))[0]
    refused = {None: NotFound, ContainerState.EXITED: WrongState}.get(state)
    if refused is not None:
        with pytest.raises(refused):
            await backend.start(name)
        return
    await backend.start(name)
    model[name] = (ContainerState.RUNNING, None)


@settings(max_examples=60, deadline=None)
@given(STEPS)
def test_it_is_what_was_done_to_it_whoever_was_killed_meanwhile(steps):
    async def main(directory):
        backend, model = await opened(directory), {}
        for action, name in steps:
            if action == "killed":
                # Nothing is shut down in an orderly way: the file is all that is left.
                backend.engine.store.close()
                backend = await opened(directory)
            else:
                await step(backend, model, action, name)
            listed = {seen.name: seen for seen in await backend.list("me")}
            states = {
                name: (seen.state, seen.exit and seen.exit.code) for name, seen in listed.items()
            }
            assert states == model
            assert all(seen.record == {"n": name} for name, seen in listed.items())
            for name in ("a", "b", "c"):
                present = (await backend.inspect(name)).presence is Presence.PRESENT
                assert present is (name in model)
        await backend.shut_down()

    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(main(directory))
