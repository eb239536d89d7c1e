"""The conformance suite of container backends: subclass it, say how yours is made, run pytest.

    class TestMyBackend(ContainerBackendContract):
        image = "busybox:latest"

        @pytest.fixture
        def plugin(self):
            return MyBackend

Each test has a backend of its own, started on a directory of its own. The image's shell scripts
what containers do, so that any image with a POSIX shell and `setsid` will do.
"""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest

from agent_core.contracts.backend import (
    CAPABILITIES,
    ContainerBackend,
    ContainerState,
    Paths,
    Presence,
)
from agent_core.contracts.edits import EDIT_FIELDS, ContainerEdits, Mount
from agent_core.contracts.errors import (
    AgentError,
    Conflict,
    ImageNotFound,
    NotFound,
    Unsupported,
    WrongState,
)
from agent_core.contracts.info import EditOutcome, EditTreatment, Plugin, Support
from agent_core.testing.backend_bench import Bench, Setting, at_work, living, marked, start_time
from agent_core.testing.backend_edits import SAMPLES
from agent_core.testing.backend_optional import OptionalChecks
from agent_core.testing.lifetime import PluginContract


def _needs_processes(bench: Bench) -> None:
    if bench.backend.capabilities()["processes"] is Support.NO:
        pytest.skip("this backend's containers have no processes of the host")


class ContainerBackendContract(OptionalChecks, PluginContract):
    """Every clause of the contract of container backends, one test each.

    Attributes:
        image: An image that exists, with a POSIX shell in it.
        path: PATH of the containers.
        cwd: A directory that every container has.
        deadline: Seconds that one test may take.
    """

    kind = "backend"
    image: ClassVar[str]
    path: ClassVar[str] = "/usr/local/bin:/usr/bin:/bin"
    cwd: ClassVar[str] = "/tmp"  # noqa: S108 - every image has it, and nothing is written
    deadline: ClassVar[float] = 30.0

    @pytest.fixture
    def setting(self, plugin: type[Plugin], config: Mapping[str, Any], tmp_path: Path) -> Setting:
        """What runs a check, each on a backend of its own."""
        assert issubclass(plugin, ContainerBackend)
        env = {"PATH": self.path}
        return Setting(plugin, config, tmp_path / "state", self.image, env, self.cwd, self.deadline)

    # -- declarations ------------------------------------------------------------------------

    @at_work
    async def test_declares_every_capability(self, bench: Bench) -> None:
        """Each capability is yes or no once the backend has started up."""
        declared = bench.backend.capabilities()
        assert set(declared) == set(CAPABILITIES)
        assert Support.UNKNOWN not in declared.values()
        assert set(bench.backend.info.capabilities) == set(CAPABILITIES)
        assert all(isinstance(v, str) for v in bench.backend.facts().values())

    @at_work
    async def test_says_what_becomes_of_every_edit(self, bench: Bench) -> None:
        """Each field of the edits has its entry, and no other has one."""
        declared = bench.backend.edits
        assert sorted(declared) == sorted(EDIT_FIELDS)
        assert all(isinstance(treatment, EditTreatment) for treatment in declared.values())

    @at_work
    async def test_lists_images_and_looks_one_up(self, bench: Bench) -> None:
        """What `inspect_image` returns is among what `images` lists."""
        image = await bench.backend.inspect_image(self.image)
        assert image.name == self.image
        assert image in list(await bench.backend.images())

    @at_work
    async def test_names_what_exists_when_an_image_does_not(self, bench: Bench) -> None:
        """An unknown image is refused with a hint."""
        with pytest.raises(ImageNotFound) as refusal:
            await bench.backend.inspect_image("no-such-image-anywhere")
        assert refusal.value.hint

    @at_work
    async def test_says_where_directories_are_seen(self, bench: Bench) -> None:
        """Every path of the host has a place in the container."""
        seen = bench.backend.paths(Paths("/h/scratch", "/h/config", "/h/runner", "/h/run"))
        places = (seen.scratch, seen.config, seen.runner, seen.run)
        assert [path for path in places if not path.startswith("/")] == []

    # -- creating and starting ---------------------------------------------------------------

    @at_work
    async def test_creates_once_by_name(self, bench: Bench) -> None:
        """The same create again does nothing; another spec of that name is a conflict."""
        spec = bench.spec(self.argv_sleep())
        await bench.backend.create(spec)
        await bench.backend.create(spec)
        assert (await bench.inspect(spec)).state is ContainerState.CREATED
        with pytest.raises(Conflict):
            await bench.backend.create(replace(spec, argv=self.argv_exit(0)))
        await bench.backend.start(spec.name)
        await bench.backend.create(spec)
        assert (await bench.inspect(spec)).state is ContainerState.RUNNING

    @at_work
    async def test_creates_of_no_image_that_is_not_there(self, bench: Bench) -> None:
        """A container of an unknown image is refused, and nothing was taken."""
        spec = bench.spec(self.argv_sleep(), image="no-such-image-anywhere")
        with pytest.raises(ImageNotFound):
            await bench.backend.create(spec)
        assert list(await bench.backend.list(bench.owner)) == []

    @at_work
    async def test_starts_once_by_name(self, bench: Bench) -> None:
        """Starting what runs does nothing, at once or one after the other."""
        spec = await bench.created(self.argv_sleep())
        start = bench.backend.start
        await asyncio.gather(start(spec.name), start(spec.name))
        first = await bench.backend.handles(spec.name)
        await bench.backend.start(spec.name)
        assert (await bench.backend.handles(spec.name)).init_pid == first.init_pid

    @at_work
    async def test_starts_only_what_was_created_and_has_not_ended(self, bench: Bench) -> None:
        """Starting an absent or an ended container is refused."""
        with pytest.raises(NotFound):
            await bench.backend.start(bench.name())
        spec = await bench.started(self.argv_exit(0))
        await bench.ended(spec)
        with pytest.raises(WrongState):
            await bench.backend.start(spec.name)

    @at_work
    async def test_says_why_a_command_cannot_start(self, bench: Bench) -> None:
        """A command that is not there fails at start, and does not run."""
        spec = await bench.created(self.argv_missing())
        with pytest.raises(AgentError):
            await bench.backend.start(spec.name)
        assert (await bench.inspect(spec)).state is not ContainerState.RUNNING
        await bench.backend.remove(spec.name)

    @at_work
    async def test_gives_the_environment_and_the_directory(self, bench: Bench) -> None:
        """The main process has the spec's environment and working directory."""
        spec = await bench.started(self.argv_greet(), env={"GREETING": "good day\nto you"})
        await bench.ended(spec)
        assert f"good day\nto you from {self.cwd}\n" in await bench.text(spec)

    # -- what is seen ------------------------------------------------------------------------

    @at_work
    async def test_absent_is_an_answer(self, bench: Bench) -> None:
        """Inspecting what is not there says so, with the time of the observation."""
        seen = await bench.backend.inspect(bench.name())
        assert seen.presence is Presence.ABSENT
        assert seen.state is None
        assert 0 < seen.began <= seen.ended

    @at_work
    async def test_lists_all_states_with_records(self, bench: Bench) -> None:
        """The owner's containers are listed in every state, each with its record as it was."""
        record = {"version": 1, "claims": [{"slot": "cpu", "amount": "2"}], "ports": {"a": 1}}
        resting = await bench.created(self.argv_sleep(), record=record)
        running = await bench.started(self.argv_sleep(), record=record)
        done = await bench.started(self.argv_exit(3), record=record)
        await bench.ended(done)
        listed = {seen.name: seen for seen in await bench.backend.list(bench.owner)}
        states = {name: seen.state for name, seen in listed.items()}
        assert states == {
            resting.name: ContainerState.CREATED,
            running.name: ContainerState.RUNNING,
            done.name: ContainerState.EXITED,
        }
        assert all(seen.record == record for seen in listed.values())
        assert all(seen.owner == bench.owner for seen in listed.values())
        assert all(seen.began <= seen.ended for seen in listed.values())

    @at_work
    async def test_hides_what_belongs_to_another_owner(self, bench: Bench) -> None:
        """Only the owner's containers are listed."""
        await bench.created(self.argv_sleep())
        assert list(await bench.backend.list("someone-else-entirely")) == []

    # -- ending ------------------------------------------------------------------------------

    @pytest.mark.parametrize("code", [0, 1, 42])
    @at_work
    async def test_tells_the_exit_code(self, bench: Bench, code: int) -> None:
        """The code of the main process is observed, with the time of the end."""
        seen = await bench.ended(await bench.started(self.argv_exit(code)))
        assert seen.exit is not None
        assert (seen.exit.code, seen.exit.signal, seen.exit.observed) == (code, None, True)
        assert seen.exit.finished_at is not None

    @at_work
    async def test_tells_the_signal(self, bench: Bench) -> None:
        """A main process that a signal ended has code 128 + signal, and the signal where known."""
        seen = await bench.ended(await bench.started(self.argv_signal(9)))
        assert seen.exit is not None
        assert seen.exit.code == 137
        assert seen.exit.signal in {9, None}

    @at_work
    async def test_stop_asks_first(self, bench: Bench) -> None:
        """A container that heeds SIGTERM ends by itself, long before the grace is over."""
        spec = await bench.ready(self.argv_sleep())
        async with asyncio.timeout(10):
            await bench.backend.stop(spec.name, grace=25)
        seen = await bench.inspect(spec)
        assert seen.exit is not None
        assert seen.exit.code == 7

    @at_work
    async def test_stop_kills_after_the_grace(self, bench: Bench) -> None:
        """A container that ignores SIGTERM is killed once the grace is over, not before."""
        spec = await bench.ready(self.argv_deaf())
        loop = asyncio.get_running_loop()
        began = loop.time()
        async with bench.pulse() as beats:
            await bench.backend.stop(spec.name, grace=0.5)
        assert loop.time() - began >= 0.5
        assert beats() > 2, "stop blocked the event loop"
        seen = await bench.inspect(spec)
        assert seen.state is ContainerState.EXITED
        assert seen.exit is not None
        assert seen.exit.code == 137

    @at_work
    async def test_kill_leaves_no_process(self, bench: Bench) -> None:
        """Daemons that left their session and their parent die with their container."""
        _needs_processes(bench)
        spec = await bench.ready(self.argv_daemons())
        pids = await bench.processes(spec, at_least=4)
        await bench.backend.kill(spec.name)
        assert not living(pids)
        assert (await bench.inspect(spec)).state is ContainerState.EXITED

    @at_work
    async def test_the_end_of_the_main_process_ends_all(self, bench: Bench) -> None:
        """Exited means that no process is left, whatever the main process left behind."""
        _needs_processes(bench)
        mark = uuid.uuid4().hex
        spec = await bench.started(self.argv_abandon(), env={"CONFORMANCE_MARK": mark})
        seen = await bench.ended(spec)
        assert seen.exit is not None
        assert seen.exit.code == 0
        assert not marked(mark)

    @at_work
    async def test_ending_what_is_not_there_succeeds(self, bench: Bench) -> None:
        """Stop, kill and remove of an absent, a resting or an ended container succeed."""
        resting = await bench.created(self.argv_sleep())
        done = await bench.started(self.argv_exit(0))
        await bench.ended(done)
        for name in (bench.name(), resting.name, done.name):
            await bench.backend.stop(name, grace=1)
            await bench.backend.kill(name)
        assert (await bench.inspect(resting)).state is ContainerState.CREATED
        for name in (bench.name(), resting.name, done.name):
            await bench.backend.remove(name)
            await bench.backend.remove(name)
        assert list(await bench.backend.list(bench.owner)) == []

    @at_work
    async def test_remove_kills_first(self, bench: Bench) -> None:
        """A running container is removed with all its processes; its name is free again."""
        spec = await bench.ready(self.argv_daemons())
        counted = bench.backend.capabilities()["processes"] is Support.YES
        pids = await bench.processes(spec, at_least=4) if counted else {}
        await bench.backend.remove(spec.name)
        assert not living(pids)
        assert (await bench.inspect(spec)).presence is Presence.ABSENT
        await bench.backend.create(replace(spec, argv=self.argv_exit(0)))
        assert (await bench.inspect(spec)).state is ContainerState.CREATED

    # -- events ------------------------------------------------------------------------------

    @at_work
    async def test_tells_of_starts_and_ends(self, bench: Bench) -> None:
        """Each start and each end is an event, in order, with the exit status."""
        async with bench.events(None) as told:
            spec = await bench.started(self.argv_exit(5))
            first = await told(spec)
            second = await told(spec)
        assert (first.kind, second.kind) == ("started", "exited")
        assert second.exit is not None
        assert second.exit.code == 5
        assert first.cursor < second.cursor

    @at_work
    async def test_resumes_events_after_a_cursor(self, bench: Bench) -> None:
        """From a cursor on, what came after it is told, also when nobody listened then."""
        async with bench.events(None) as told:
            first = await bench.started(self.argv_exit(0))
            await told(first)
            cursor = (await told(first)).cursor
        second = await bench.started(self.argv_exit(6))
        await bench.ended(second)
        async with bench.events(cursor) as told:
            kinds = [(await told(second)).kind, (await told(second)).kind]
        assert kinds == ["started", "exited"]

    @at_work
    async def test_tells_what_ended_between_two_agents(self, bench: Bench) -> None:
        """An exit that no agent saw is told to the next one that asks with its old cursor."""
        async with bench.events(None) as told:
            spec = await bench.ready(self.argv_sleep())
            cursor = (await told(spec)).cursor
        await bench.backend.shut_down()
        bench.backend = await bench.opened()
        await bench.backend.stop(spec.name, grace=10)
        async with bench.events(cursor) as told:
            while (event := await told(spec)).kind != "exited":
                pass
        assert event.exit is not None
        assert event.exit.code == 7

    # -- logs --------------------------------------------------------------------------------

    @at_work
    async def test_keeps_the_output(self, bench: Bench) -> None:
        """What was printed can be read after the end, followed or not."""
        spec = await bench.started(self.argv_print("so long"))
        await bench.ended(spec)
        assert "so long\n" in await bench.text(spec)
        assert "so long\n" in await bench.text(spec, follow=True)

    @at_work
    async def test_has_no_output_before_the_start(self, bench: Bench) -> None:
        """A container that was only created has printed nothing, which is no error."""
        spec = await bench.created(self.argv_print("so long"))
        assert await bench.text(spec) == ""

    @at_work
    async def test_follows_the_output_to_the_end(self, bench: Bench) -> None:
        """Following yields what comes, and ends with the container."""
        spec = await bench.started(self.argv_two_words())
        text = await bench.text(spec, follow=True)
        assert text.index("one") < text.index("two")
        assert (await bench.ended(spec)).state is ContainerState.EXITED

    @at_work
    async def test_bounds_the_output(self, bench: Bench) -> None:
        """Of too much output about as much as the limit is kept, and its end always."""
        lines, limit = 8000, 100_000
        spec = await bench.started(self.argv_flood(lines), log_limit=limit)
        await bench.ended(spec)
        text = await bench.text(spec)
        assert limit / 4 <= len(text) <= limit * 1.5
        assert f"{lines - 1:079d}" in text

    @at_work
    async def test_has_no_logs_of_what_is_not_there(self, bench: Bench) -> None:
        """Logs of an absent container are an error, not silence."""
        with pytest.raises(NotFound):
            async for _ in bench.backend.logs(bench.name()):
                pass

    # -- handles, edits, agents that come and go ---------------------------------------------

    @at_work
    async def test_names_the_first_process_surely(self, bench: Bench) -> None:
        """The handles' pid and start time are those of one living process."""
        _needs_processes(bench)
        spec = await bench.ready(self.argv_sleep())
        handles = await bench.backend.handles(spec.name)
        assert start_time(handles.init_pid) == handles.init_start_time
        assert handles.init_pid in handles.pids
        assert all(map(os.path.isdir, handles.cgroups.values()))
        await bench.backend.kill(spec.name)
        with pytest.raises(NotFound):
            await bench.backend.handles(spec.name)

    @at_work
    async def test_has_handles_of_what_runs_only(self, bench: Bench) -> None:
        """A container that does not run has no handles; one without processes names none."""
        spec = await bench.created(self.argv_sleep())
        with pytest.raises(NotFound):
            await bench.backend.handles(spec.name)
        await bench.backend.start(spec.name)
        handles = await bench.backend.handles(spec.name)
        simulated = bench.backend.capabilities()["processes"] is Support.NO
        assert simulated is not bool(handles.init_pid)
        await bench.backend.kill(spec.name)
        with pytest.raises(NotFound):
            await bench.backend.handles(spec.name)

    @at_work
    async def test_verifies_what_it_promised(self, bench: Bench) -> None:
        """What runs as promised has no difference; what does not is named."""
        promised = ContainerEdits(env={"ACME": "1"}, rlimits={"nofile": 128})
        spec = await bench.ready(self.argv_sleep(), env={"ACME": "1"}, edits=promised)
        assert list(await bench.backend.verify(spec.name, promised)) == []
        other = replace(promised, env={"ACME": "2"}, rlimits={"nofile": 256})
        assert len(await bench.backend.verify(spec.name, other)) == 2

    @pytest.mark.parametrize("capability", ["networks", "mounts"])
    @at_work
    async def test_refuses_before_it_takes(self, bench: Bench, capability: str) -> None:
        """What the backend declares that it cannot do is refused, and nothing was taken."""
        edits = {
            "networks": ContainerEdits(networks=("conformance",)),
            "mounts": ContainerEdits(mounts=(Mount(self.cwd, "/conformance"),)),
        }
        if bench.backend.capabilities()[capability] is not Support.NO:
            pytest.skip(f"this backend declares {capability}")
        await self._refuses(bench, edits[capability])

    @at_work
    async def test_refuses_the_edits_that_it_says_it_refuses(self, bench: Bench) -> None:
        """Each field that is declared as refused is refused alone, and nothing was taken."""
        for field, treatment in bench.backend.edits.items():
            if treatment.outcome is EditOutcome.REFUSED:
                await self._refuses(bench, ContainerEdits(**{field: SAMPLES[field]}))

    async def _refuses(self, bench: Bench, edits: ContainerEdits) -> None:
        spec = bench.spec(self.argv_exit(0), edits=edits)
        with pytest.raises(Unsupported):
            await bench.backend.create(spec)
        assert (await bench.inspect(spec)).presence is Presence.ABSENT
        assert list(await bench.backend.list(bench.owner)) == []

    @at_work
    async def test_finds_its_containers_again(self, bench: Bench) -> None:
        """Containers go on while no agent is there; the next one finds, watches and ends them."""
        spec = await bench.ready(self.argv_sleep(), record={"ports": [1]})
        before = await bench.backend.handles(spec.name)
        await bench.backend.shut_down()
        bench.backend = await bench.opened()
        seen = await bench.inspect(spec)
        assert (seen.state, seen.record) == (ContainerState.RUNNING, {"ports": [1]})
        assert (await bench.backend.handles(spec.name)).init_pid == before.init_pid
        async with bench.events(None) as told:
            await bench.backend.stop(spec.name, grace=10)
            event = await told(spec)
        assert (event.kind, event.exit and event.exit.code) == ("exited", 7)
