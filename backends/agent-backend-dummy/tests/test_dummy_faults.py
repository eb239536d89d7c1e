"""A bad day as it is written down: what strikes, how often, and the same again by the same seed."""

from __future__ import annotations

import asyncio

import pytest
from agent_backend_dummy.backend import DummyBackend
from agent_backend_dummy.faults import SimulatedFault, read_fault

from agent_core.contracts.backend import ContainerSpec, ContainerState
from agent_core.contracts.errors import ImageNotFound, InvalidArgument, InvalidConfig
from agent_core.contracts.runner import Run, RunMode, RunnerContext

DEADLINE = 20


def spec(name, kernel="", image="python"):
    return ContainerSpec(
        name, "me", image, (), {"BACKENDAI_KERNEL_ID": kernel}, "/", record={"k": 1}
    )


def on(tmp_path, config, body):
    async def main():
        backend = DummyBackend()
        backend.open(config)
        await backend.start_up("me", str(tmp_path))
        try:
            async with asyncio.timeout(DEADLINE):
                return await body(backend)
        finally:
            await backend.shut_down()

    return asyncio.run(main())


def fault(step, action, **more):
    return {"step": step, "action": action, **more}


async def outcomes(backend, count=12):
    """Create containers and say which failed."""
    failed = []
    for number in range(count):
        try:
            await backend.create(spec(f"c{number}", f"k{number}"))
        except SimulatedFault:
            failed.append(number)
    return failed


def test_a_fault_strikes_what_it_is_about_and_nothing_else(tmp_path):
    config = {"fault": [fault("create", "fail", kernel="k3"), fault("cr*", "fail", container="c5")]}
    assert on(tmp_path, config, outcomes) == [3, 5]


def test_a_fault_can_be_of_one_time_only(tmp_path):
    assert on(tmp_path, {"fault": [fault("create", "fail", nth=4)]}, outcomes) == [3]


def test_a_fault_can_be_of_some_times_only(tmp_path):
    assert on(tmp_path, {"fault": [fault("create", "fail", times=2)]}, outcomes) == [0, 1]


def test_the_same_seed_makes_the_same_day(tmp_path):
    config = {"seed": 7, "fault": [fault("create", "fail", probability=0.5)]}
    first = on(tmp_path / "1", config, outcomes)
    assert first == on(tmp_path / "2", config, outcomes)
    assert 0 < len(first) < 12
    assert first != on(tmp_path / "3", {**config, "seed": 8}, outcomes)


def test_a_failure_can_come_after_the_work_was_done(tmp_path):
    async def body(backend):
        with pytest.raises(SimulatedFault, match="500"):
            await backend.create(spec("c"))
        return (await backend.inspect("c")).state

    config = {"fault": [fault("create", "fail", when="after", message="answered 500")]}
    assert on(tmp_path, config, body) is ContainerState.CREATED


def test_a_hang_lasts_until_it_is_given_up(tmp_path):
    async def body(backend):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await backend.create(spec("c"))
        return await backend.list("me")

    assert on(tmp_path, {"fault": [fault("create", "hang")]}, body) == []


@pytest.mark.parametrize(
    ("more", "code", "oom"),
    [({"code": 3}, 3, False), ({"signal": 15}, 143, False), ({"action": "oom"}, 137, True)],
)
def test_a_container_ends_by_itself_and_tells_of_it(tmp_path, more, code, oom):
    async def body(backend):
        events = backend.events(None)
        coming = asyncio.ensure_future(anext(events))
        await asyncio.sleep(0)
        await backend.create(spec("c"))
        await backend.start("c")
        assert (await coming).kind == "started"
        ended = await anext(events)
        return ended.exit

    config = {"fault": [{**fault("run", "exit", seconds=0.01), **more}]}
    seen = on(tmp_path, config, body)
    assert (seen.code, seen.oom, seen.observed) == (code, oom, True)


@pytest.mark.parametrize(("action", "told"), [("lose", 0), ("duplicate", 2)])
def test_events_are_lost_and_told_twice(tmp_path, action, told):
    async def body(backend):
        await backend.create(spec("c"))
        await backend.start("c")
        return [event.kind for _, event in backend.engine.store.events(0, 10)]

    assert on(tmp_path, {"fault": [fault("event", action)]}, body) == ["started"] * told


def test_what_fell_due_while_no_agent_ran_has_ended_then(tmp_path):
    async def begin(backend):
        await backend.create(spec("c"))
        await backend.start("c")

    async def look(backend):
        return await backend.inspect("c")

    on(tmp_path, {"fault": [fault("run", "exit", seconds=0.02, code=9)]}, begin)
    seen = on(tmp_path, {}, look)
    while seen.state is not ContainerState.EXITED:
        seen = on(tmp_path, {}, look)
    assert seen.exit.code == 9


def test_faults_of_a_runner_and_of_a_pull(tmp_path):
    async def body(backend):
        runner = backend.code_runner(RunnerContext("k1", 1, "c"))
        await runner.open()
        with pytest.raises(SimulatedFault):
            async for _ in runner.execute(Run("r", RunMode.QUERY, "1")):
                pass
        with pytest.raises(SimulatedFault):
            async for _ in backend.pull_image("big"):
                pass
        return [image.name for image in await backend.images()]

    faults = [fault("execute", "fail", kernel="k1"), fault("pull", "fail", times=1)]
    config = {"fault": faults, "agent": {"image": {"need-to-pull": ["big"]}}}
    assert on(tmp_path, config, body) == []


@pytest.mark.parametrize(
    ("table", "what"),
    [
        ({"action": "fail"}, "no step"),
        ({"step": "create"}, "no action"),
        ({"step": "creat", "action": "fail"}, "did you mean 'create'"),
        ({"step": "create", "action": "fial"}, "did you mean 'fail'"),
        ({"step": "create", "action": "lose"}, "of the step 'event' only"),
        ({"step": "create", "action": "oom"}, "of the step 'run' only"),
        ({"step": "create", "action": "fail", "kernl": "x"}, "did you mean 'kernel'"),
        ({"step": "create", "action": "slow", "seconds": [2, 1]}, "reversed"),
        ({"step": "create", "action": "fail", "probability": 2}, "from 0 to 1"),
        ({"step": "create", "action": "fail", "nth": 0}, "nth"),
        ({"step": "create", "action": "fail", "when": "later"}, "when"),
        ({"step": 3, "action": "fail"}, "not a text"),
    ],
)
def test_a_wrong_fault_says_how_to_mend_it(table, what):
    with pytest.raises(InvalidArgument, match=what):
        read_fault(table)


def test_a_file_of_faults_is_read_whole_and_all_that_is_wrong_is_named(tmp_path):
    path = tmp_path / "faults.toml"
    path.write_text('[[fault]]\nstep = "create"\naction = "fail"\nkernel = "k1"\n')
    assert on(tmp_path / "s", {"faults": str(path)}, outcomes) == [1]
    path.write_text('[[fault]]\nstep = "x"\naction = "fail"\n[[fault]]\nstep = "start"\n')
    with pytest.raises(InvalidConfig) as caught:
        DummyBackend().open({"faults": str(path), "fault": [{}]})
    assert len(caught.value.details["faults"]) == 3
    for content in (b"\xff", b"fault = 3", b"[other]"):
        path.write_bytes(content)
        with pytest.raises(InvalidConfig):
            DummyBackend().open({"faults": str(path)})
    with pytest.raises(InvalidConfig):
        DummyBackend().open({"faults": str(tmp_path)})


def test_faults_are_added_listed_and_cleared_while_it_runs(tmp_path):
    async def body(backend):
        await backend.command("add-fault", fault("create", "fail", times=1))
        failed = await outcomes(backend, 3)
        [listed] = (await backend.command("list-faults", {}))["faults"]
        cleared = await backend.command("clear-faults", {})
        with pytest.raises(InvalidArgument):
            await backend.command("add-fault", {"step": "create"})
        return failed, listed["struck"], cleared

    assert on(tmp_path, {}, body) == ([0], 1, {"faults": []})


def test_a_running_container_is_ended_on_demand(tmp_path):
    async def body(backend):
        await backend.create(spec("c", "k1"))
        await backend.start("c")
        await backend.command("exit-container", {"container": "k1", "oom": True})
        with pytest.raises(InvalidArgument, match="container"):
            await backend.command("exit-container", {})
        async for event in backend.events("0"):
            if event.kind == "exited":
                return event.exit
        return None

    assert on(tmp_path, {}, body).oom


def test_images_are_here_pulled_or_nowhere(tmp_path):
    async def names(backend):
        return [image.name for image in await backend.images()]

    async def body(backend):
        assert await names(backend) == ["here:1"]
        with pytest.raises(ImageNotFound) as refusal:
            await backend.inspect_image("big:1")
        assert "images pull big:1" in refusal.value.hint
        progress = [item async for item in backend.pull_image("big:1")]
        assert progress[-1]["status"] == "complete"
        assert progress[-1]["current"] == progress[-1]["total"]
        assert await names(backend) == ["big:1", "here:1"]
        for name in ("gone:1", "unheard:1"):
            with pytest.raises(ImageNotFound):
                async for _ in backend.pull_image(name):
                    pass
        await backend.remove_image("here:1")
        await backend.remove_image("here:1")
        return await names(backend)

    image = {"already-have": {"here:1": ""}, "need-to-pull": ["big:1"], "missing": ["gone:1"]}
    assert on(tmp_path, {"agent": {"image": image}}, body) == ["big:1"]


@pytest.mark.parametrize("fake", [True, False])
def test_a_run_ends_well_and_runs_nothing(tmp_path, fake):
    async def body(backend):
        runner = backend.code_runner(RunnerContext("k1", 1, "c"))
        await runner.open()
        said = [message async for message in runner.execute(Run("r", RunMode.QUERY, "exit(3)"))]
        assert list(await runner.complete("im", 2)) == []
        await runner.interrupt(None)
        await runner.close()
        await runner.close()
        return [message["type"] for message in said], said[-1]["exit_code"], type(runner).__name__

    config = {"kernel": {"use-fake-code-runner": fake}}
    name = "DummyFakeCodeRunner" if fake else "DummyCodeRunner"
    assert on(tmp_path, config, body) == (["started", "finished"], 0, name)
