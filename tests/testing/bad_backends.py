"""Backends that are bad in one way each, and the conformance suite of each of them.

All but the fault is the process backend. `test_backend_conformance_bites` runs this file.
"""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import pytest
from agent_backend_process import processes
from agent_backend_process.backend import ProcessBackend
from corpus import Expectation, suites

from agent_core.contracts.backend import (
    BackendEvent,
    ContainerSpec,
    ContainerState,
    ContainerStatus,
    ExitStatus,
    FileEntry,
    Handles,
    Image,
    Paths,
    Presence,
)
from agent_core.contracts.edits import ContainerEdits
from agent_core.contracts.errors import (
    Conflict,
    ImageNotFound,
    KernelFailed,
    NotFound,
    Unsupported,
    WrongState,
)
from agent_core.contracts.info import Support
from agent_core.testing import ContainerBackendContract

# -- declarations ----------------------------------------------------------------------------


class NoFault(ProcessBackend):
    """The control: nothing fails."""


class CapabilityMissing(ProcessBackend):
    def capabilities(self) -> Mapping[str, Support]:
        return {k: v for k, v in super().capabilities().items() if k != "commit"}


class CapabilityNeverKnown(ProcessBackend):
    def capabilities(self) -> Mapping[str, Support]:
        return {**super().capabilities(), "kill.whole": Support.UNKNOWN}


class EditWithoutTreatment(ProcessBackend):
    edits: ClassVar = {k: v for k, v in ProcessBackend.edits.items() if k != "syscalls"}


class ImageNotListed(ProcessBackend):
    async def images(self) -> Sequence[Image]:
        return [image for image in await super().images() if image.name != "sh"]


class AnyImageExists(ProcessBackend):
    async def inspect_image(self, name: str) -> Image:
        return Image(name) if name.startswith("no-such") else await super().inspect_image(name)


class UnknownImageWithoutHint(ProcessBackend):
    async def inspect_image(self, name: str) -> Image:
        try:
            return await super().inspect_image(name)
        except ImageNotFound as exc:
            raise ImageNotFound(str(exc)) from exc


class RelativePaths(ProcessBackend):
    def paths(self, host: Paths) -> Paths:
        return replace(host, run="run")


# -- creating and starting -------------------------------------------------------------------


class CreateAgainRaises(ProcessBackend):
    async def create(self, spec: ContainerSpec) -> None:
        if (await self.inspect(spec.name)).presence is Presence.PRESENT:
            raise Conflict(f"container {spec.name!r} exists")
        await super().create(spec)


class CreateTakesAnotherSpec(ProcessBackend):
    async def create(self, spec: ContainerSpec) -> None:
        if (await self.inspect(spec.name)).presence is not Presence.PRESENT:
            await super().create(spec)


class CreatesOfAnyImage(ProcessBackend):
    async def create(self, spec: ContainerSpec) -> None:
        await super().create(replace(spec, image="sh"))


class RefusesAnImageAfterHavingTaken(ProcessBackend):
    async def create(self, spec: ContainerSpec) -> None:
        await super().create(replace(spec, image="sh"))
        await self.inspect_image(spec.image)


class StartTwiceRaises(ProcessBackend):
    async def start(self, name: str) -> None:
        if (await self.inspect(name)).state is ContainerState.RUNNING:
            raise WrongState(f"container {name!r} runs already")
        await super().start(name)


class StartOfTheAbsentSucceeds(ProcessBackend):
    async def start(self, name: str) -> None:
        if (await self.inspect(name)).presence is not Presence.ABSENT:
            await super().start(name)


class StartOfTheEndedSucceeds(ProcessBackend):
    async def start(self, name: str) -> None:
        if (await self.inspect(name)).state is not ContainerState.EXITED:
            await super().start(name)


class FailedStartIsSilent(ProcessBackend):
    async def start(self, name: str) -> None:
        try:
            await super().start(name)
        except KernelFailed:
            return


class EnvironmentCutAtTheFirstLine(ProcessBackend):
    async def create(self, spec: ContainerSpec) -> None:
        env = {key: value.split("\n")[0] for key, value in spec.env.items()}
        await super().create(replace(spec, env=env))


class WrongDirectory(ProcessBackend):
    async def create(self, spec: ContainerSpec) -> None:
        await super().create(replace(spec, cwd="/"))


# -- what is seen ----------------------------------------------------------------------------


class InspectRaisesForTheAbsent(ProcessBackend):
    async def inspect(self, name: str) -> ContainerStatus:
        seen = await super().inspect(name)
        if seen.presence is Presence.ABSENT:
            raise NotFound(f"there is no container {name!r}")
        return seen


class ObservationWithoutTime(ProcessBackend):
    async def inspect(self, name: str) -> ContainerStatus:
        return replace(await super().inspect(name), began=0.0, ended=0.0)


class ListHidesTheEnded(ProcessBackend):
    async def list(self, owner: str) -> Sequence[ContainerStatus]:
        found = await super().list(owner)
        return [seen for seen in found if seen.state is not ContainerState.EXITED]


class ListHidesTheResting(ProcessBackend):
    async def list(self, owner: str) -> Sequence[ContainerStatus]:
        found = await super().list(owner)
        return [seen for seen in found if seen.state is not ContainerState.CREATED]


class ListShowsEverybodys(ProcessBackend):
    async def start_up(self, owner: str, state_dir: str) -> None:
        self._owner = owner
        await super().start_up(owner, state_dir)

    async def list(self, owner: str) -> Sequence[ContainerStatus]:
        return await super().list(self._owner)


class ListDropsTheRecord(ProcessBackend):
    async def list(self, owner: str) -> Sequence[ContainerStatus]:
        return [replace(seen, record={}) for seen in await super().list(owner)]


class InspectDropsTheRecord(ProcessBackend):
    async def inspect(self, name: str) -> ContainerStatus:
        return replace(await super().inspect(name), record={})


# -- ending ----------------------------------------------------------------------------------


class _Ends(ProcessBackend):
    """Tells ends in a way of its own."""

    def end(self, ended: ExitStatus) -> ExitStatus:
        raise NotImplementedError

    async def inspect(self, name: str) -> ContainerStatus:
        seen = await super().inspect(name)
        return replace(seen, exit=self.end(seen.exit)) if seen.exit else seen


class ExitCodeAlwaysZero(_Ends):
    def end(self, ended: ExitStatus) -> ExitStatus:
        return ended if ended.code in {7, 137} else replace(ended, code=0)


class ExitNeverObserved(_Ends):
    def end(self, ended: ExitStatus) -> ExitStatus:
        return replace(ended, observed=False)


class ExitWithoutTime(_Ends):
    def end(self, ended: ExitStatus) -> ExitStatus:
        return replace(ended, finished_at=None)


class SignalAsNegativeCode(_Ends):
    def end(self, ended: ExitStatus) -> ExitStatus:
        return replace(ended, code=-ended.signal) if ended.signal else ended


class StopNeverAsks(ProcessBackend):
    async def stop(self, name: str, grace: float) -> None:
        await super().kill(name)


class StopSleepsOutTheGrace(ProcessBackend):
    async def stop(self, name: str, grace: float) -> None:
        runs = (await self.inspect(name)).state is ContainerState.RUNNING
        await super().stop(name, grace)
        await asyncio.sleep(grace if runs and grace > 20 else 0)


class StopIgnoresTheStubborn(ProcessBackend):
    async def stop(self, name: str, grace: float) -> None:
        try:
            handles = await self.handles(name)
        except NotFound:
            return
        processes.send((handles.init_pid, handles.init_start_time), processes.SIGTERM)
        for _ in range(int(grace / 0.05) + 1):
            if (await self.inspect(name)).state is ContainerState.EXITED:
                return
            await asyncio.sleep(0.05)


class StopBlocksTheLoop(ProcessBackend):
    async def stop(self, name: str, grace: float) -> None:
        if (await self.inspect(name)).state is ContainerState.RUNNING and grace < 1:
            time.sleep(grace)  # noqa: ASYNC251 - that is the fault
            grace = 0
        await super().stop(name, grace)


class _Leaves(ProcessBackend):
    """Leaves processes of a container behind, and ends them for the test's sake at the end."""

    def __init__(self) -> None:
        super().__init__()
        self._left: list[tuple[int, int]] = []

    async def leave_all_but_the_first(self, name: str, *, first: bool = True) -> None:
        directory = self._at_work[0].at(name)
        identity = directory.identity()
        if (await self.inspect(name)).state is not ContainerState.RUNNING or identity is None:
            return
        self._left += processes.descendants(identity.shim[0])
        directory.record_inferred_exit()
        for process in [identity.shim, identity.main] if first else [identity.shim]:
            processes.send(process, processes.SIGKILL)

    async def shut_down(self) -> None:
        for process in self._left:
            processes.send(process, processes.SIGKILL)
        await super().shut_down()


class KillLeavesDaemons(_Leaves):
    async def kill(self, name: str) -> None:
        await self.leave_all_but_the_first(name)


class RemoveLeavesDaemons(_Leaves):
    async def remove(self, name: str) -> None:
        await self.leave_all_but_the_first(name)
        await super().remove(name)


class RemoveLeavesAll(_Leaves):
    async def remove(self, name: str) -> None:
        await self.leave_all_but_the_first(name, first=False)
        await super().remove(name)


class RemoveRefusesWhatRuns(ProcessBackend):
    """Refuses once, so that the bench can clear up."""

    refused = False

    async def remove(self, name: str) -> None:
        if (await self.inspect(name)).state is ContainerState.RUNNING and not self.refused:
            self.refused = True
            raise WrongState(f"container {name!r} runs")
        await super().remove(name)


class EndLeavesAHelper(ProcessBackend):
    """Each container has a helper beside it, which nobody ends with it."""

    def __init__(self) -> None:
        super().__init__()
        self._helpers: list[subprocess.Popen[bytes]] = []

    async def create(self, spec: ContainerSpec) -> None:
        await super().create(spec)
        self._helpers.append(subprocess.Popen(["sleep", "60"], env=dict(spec.env)))  # noqa: ASYNC220 - a test's

    async def shut_down(self) -> None:
        for helper in self._helpers:
            helper.kill()
            helper.wait()
        await super().shut_down()


class RemoveTwiceRaises(ProcessBackend):
    async def remove(self, name: str) -> None:
        if (await self.inspect(name)).presence is Presence.ABSENT:
            raise NotFound(f"there is no container {name!r}")
        await super().remove(name)


class StopOfTheEndedRaises(ProcessBackend):
    async def stop(self, name: str, grace: float) -> None:
        if (await self.inspect(name)).state is ContainerState.EXITED:
            raise WrongState(f"container {name!r} has ended")
        await super().stop(name, grace)


class KillOfTheAbsentRaises(ProcessBackend):
    async def kill(self, name: str) -> None:
        if (await self.inspect(name)).presence is Presence.ABSENT:
            raise NotFound(f"there is no container {name!r}")
        await super().kill(name)


class NameIsNeverFreeAgain(ProcessBackend):
    def __init__(self) -> None:
        super().__init__()
        self._used: set[str] = set()

    async def create(self, spec: ContainerSpec) -> None:
        known = (await self.inspect(spec.name)).presence is Presence.PRESENT
        if spec.name in self._used and not known:
            raise Conflict(f"the name {spec.name!r} was used")
        await super().create(spec)
        self._used.add(spec.name)


# -- events ----------------------------------------------------------------------------------


class StartsAreNotTold(ProcessBackend):
    async def events(self, cursor: str | None) -> AsyncIterator[BackendEvent]:
        async for event in super().events(cursor):
            if event.kind != "started":
                yield event


class EndsAreNotTold(ProcessBackend):
    async def events(self, cursor: str | None) -> AsyncIterator[BackendEvent]:
        async for event in super().events(cursor):
            if event.kind != "exited":
                yield event


class EndsAreToldWithoutStatus(ProcessBackend):
    async def events(self, cursor: str | None) -> AsyncIterator[BackendEvent]:
        async for event in super().events(cursor):
            yield replace(event, exit=None)


class CursorsStandStill(ProcessBackend):
    async def events(self, cursor: str | None) -> AsyncIterator[BackendEvent]:
        async for event in super().events(cursor):
            yield replace(event, cursor="0")


class CursorsAreIgnored(ProcessBackend):
    async def events(self, cursor: str | None) -> AsyncIterator[BackendEvent]:
        async for event in super().events(None):
            yield event


class EventsFail(ProcessBackend):
    async def events(self, cursor: str | None) -> AsyncIterator[BackendEvent]:
        async for event in super().events(cursor):
            yield event
            raise RuntimeError("the stream broke")


# -- logs ------------------------------------------------------------------------------------


class LogsOfTheEndedAreGone(ProcessBackend):
    async def logs(self, name: str, *, follow: bool = False) -> AsyncIterator[bytes]:
        async for chunk in super().logs(name, follow=follow):
            if follow or (await self.inspect(name)).state is not ContainerState.EXITED:
                yield chunk


class FollowingTheEndedIsSilent(ProcessBackend):
    async def logs(self, name: str, *, follow: bool = False) -> AsyncIterator[bytes]:
        if not (follow and (await self.inspect(name)).state is ContainerState.EXITED):
            async for chunk in super().logs(name, follow=follow):
                yield chunk


class LogsOfTheRestingRaise(ProcessBackend):
    async def logs(self, name: str, *, follow: bool = False) -> AsyncIterator[bytes]:
        if (await self.inspect(name)).state is ContainerState.CREATED:
            raise NotFound(f"container {name!r} has not been started")
        async for chunk in super().logs(name, follow=follow):
            yield chunk


class LogsWithoutBound(ProcessBackend):
    async def create(self, spec: ContainerSpec) -> None:
        await super().create(replace(spec, log_limit=1 << 30))


class LogsKeepTheBeginning(ProcessBackend):
    async def create(self, spec: ContainerSpec) -> None:
        await super().create(replace(spec, log_limit=1 << 30))

    async def logs(self, name: str, *, follow: bool = False) -> AsyncIterator[bytes]:
        kept = 0
        async for chunk in super().logs(name, follow=follow):
            yield chunk[: 100_000 - kept]
            kept = min(kept + len(chunk), 100_000)


class LogsKeepNextToNothing(ProcessBackend):
    async def create(self, spec: ContainerSpec) -> None:
        limit = spec.log_limit if spec.log_limit > 1 << 20 else 2000
        await super().create(replace(spec, log_limit=limit))


class FollowNeverEnds(ProcessBackend):
    async def logs(self, name: str, *, follow: bool = False) -> AsyncIterator[bytes]:
        async for chunk in super().logs(name, follow=follow):
            yield chunk
        if follow:
            await asyncio.Event().wait()


class FollowDoesNotFollow(ProcessBackend):
    async def logs(self, name: str, *, follow: bool = False) -> AsyncIterator[bytes]:
        async for chunk in super().logs(name, follow=False):
            yield chunk


class LogsOfTheAbsentAreEmpty(ProcessBackend):
    async def logs(self, name: str, *, follow: bool = False) -> AsyncIterator[bytes]:
        if (await self.inspect(name)).presence is not Presence.ABSENT:
            async for chunk in super().logs(name, follow=follow):
                yield chunk


# -- handles, edits, agents that come and go -------------------------------------------------


class _Handles(ProcessBackend):
    """Tells handles in a way of its own."""

    def handle(self, handles: Handles) -> Handles:
        raise NotImplementedError

    async def handles(self, name: str) -> Handles:
        return self.handle(await super().handles(name))


class HandlesWithWrongStartTime(_Handles):
    def handle(self, handles: Handles) -> Handles:
        return replace(handles, init_start_time=handles.init_start_time // 100)


class HandlesWithoutTheFirstPid(_Handles):
    def handle(self, handles: Handles) -> Handles:
        return replace(handles, pids=tuple(p for p in handles.pids if p != handles.init_pid))


class HandlesWithoutDaemons(_Handles):
    def handle(self, handles: Handles) -> Handles:
        return replace(handles, pids=(handles.init_pid,))


class HandlesOfCgroupsThatAreNot(_Handles):
    def handle(self, handles: Handles) -> Handles:
        return replace(handles, cgroups={"cpu": "/sys/fs/cgroup/no/such"})


class HandlesOfTheEnded(ProcessBackend):
    async def handles(self, name: str) -> Handles:
        try:
            return await super().handles(name)
        except NotFound:
            return Handles(0, 0)


class VerifyIsAlwaysContent(ProcessBackend):
    async def verify(self, name: str, edits: ContainerEdits) -> Sequence[str]:
        return []


class VerifyStopsAtTheFirst(ProcessBackend):
    async def verify(self, name: str, edits: ContainerEdits) -> Sequence[str]:
        return (await super().verify(name, edits))[:1]


class VerifyIsNeverContent(ProcessBackend):
    async def verify(self, name: str, edits: ContainerEdits) -> Sequence[str]:
        return [*await super().verify(name, edits), "something is always amiss"]


class RefusesAfterHavingTaken(ProcessBackend):
    async def create(self, spec: ContainerSpec) -> None:
        try:
            await super().create(spec)
        except Unsupported:
            await super().create(replace(spec, edits=ContainerEdits()))
            raise


class TakesWhatItCannotGive(ProcessBackend):
    async def create(self, spec: ContainerSpec) -> None:
        await super().create(replace(spec, edits=replace(spec.edits, networks=())))


class IgnoresWhatItSaysItRefuses(ProcessBackend):
    async def create(self, spec: ContainerSpec) -> None:
        await super().create(replace(spec, edits=replace(spec.edits, hooks=())))


class ExecOnlySaysItRan(ProcessBackend):
    async def exec(self, name: str, argv: Sequence[str]) -> ExitStatus:
        return ExitStatus(0)


class FilesAreListedOnly(ProcessBackend):
    async def list_files(self, name: str, path: str) -> Sequence[FileEntry]:
        return []


class PullEndsAtOnce(ProcessBackend):
    async def pull_image(self, name: str) -> AsyncIterator[Mapping[str, Any]]:
        for nothing in ():
            yield nothing


class SavesNothing(ProcessBackend):
    async def save_image(self, name: str) -> AsyncIterator[bytes]:
        for nothing in ():
            yield nothing


class CommitsWithoutBeingAbleTo(ProcessBackend):
    async def commit(self, name: str, image: str) -> str:
        return ""


class NetworksCannotBeGivenBack(ProcessBackend):
    async def remove_network(self, name: str) -> None:
        raise Unsupported("there are no networks")


class ContainersDieWithTheAgent(ProcessBackend):
    async def shut_down(self) -> None:
        if self._containers is not None:
            for directory in self._containers.all():
                await self.kill(directory.name)
        await super().shut_down()


class RestartForgetsWhatRuns(ProcessBackend):
    """Knows only what it created itself."""

    def __init__(self) -> None:
        super().__init__()
        self._mine: set[str] = set()

    async def create(self, spec: ContainerSpec) -> None:
        self._mine.add(spec.name)
        await super().create(spec)

    async def inspect(self, name: str) -> ContainerStatus:
        seen = await super().inspect(name)
        mine = name in self._mine
        return seen if mine else replace(seen, presence=Presence.ABSENT, state=None, exit=None)


class RestartForgetsEnds(ProcessBackend):
    """Watches only what it started itself, so that others' ends are not told."""

    def __init__(self) -> None:
        super().__init__()
        self._mine: set[str] = set()

    async def start(self, name: str) -> None:
        self._mine.add(name)
        await super().start(name)

    async def events(self, cursor: str | None) -> AsyncIterator[BackendEvent]:
        async for event in super().events(cursor):
            if event.name in self._mine:
                yield event


# -- what fails ------------------------------------------------------------------------------

_LATE = "TimeoutError"

EXPECTED = [
    Expectation(NoFault, {}),
    Expectation(CapabilityMissing, {"declares_every_capability": "commit"}),
    Expectation(CapabilityNeverKnown, {"declares_every_capability": "UNKNOWN"}),
    Expectation(EditWithoutTreatment, {"says_what_becomes_of_every_edit": "syscalls"}),
    Expectation(ImageNotListed, {"lists_images_and_looks_one_up": "assert Image"}),
    Expectation(AnyImageExists, {"names_what_exists": "DID NOT RAISE"}),
    Expectation(UnknownImageWithoutHint, {"names_what_exists": "hint"}),
    Expectation(RelativePaths, {"says_where_directories_are_seen": "['run']"}),
    Expectation(CreateAgainRaises, {"creates_once_by_name": "exists"}),
    Expectation(CreateTakesAnotherSpec, {"creates_once_by_name": "DID NOT RAISE"}),
    Expectation(CreatesOfAnyImage, {"creates_of_no_image_that_is_not_there": "DID NOT RAISE"}),
    Expectation(
        RefusesAnImageAfterHavingTaken, {"creates_of_no_image_that_is_not_there": "CREATED"}
    ),
    Expectation(StartTwiceRaises, {"starts_once_by_name": "runs already"}),
    Expectation(StartOfTheAbsentSucceeds, {"starts_only_what_was_created": "DID NOT RAISE"}),
    Expectation(StartOfTheEndedSucceeds, {"starts_only_what_was_created": "DID NOT RAISE"}),
    Expectation(FailedStartIsSilent, {"says_why_a_command_cannot_start": "DID NOT RAISE"}),
    Expectation(
        EnvironmentCutAtTheFirstLine, {"gives_the_environment_and_the_directory": "good day"}
    ),
    Expectation(WrongDirectory, {"gives_the_environment_and_the_directory": "from /"}),
    Expectation(
        InspectRaisesForTheAbsent,
        {
            "absent_is_an_answer": "there is no container",
            "remove_kills_first": "there is no container",
            "refuses_before_it_takes": "there is no container",
            "refuses_the_edits": "there is no container",
        },
    ),
    Expectation(ObservationWithoutTime, {"absent_is_an_answer": "0 < 0.0"}),
    Expectation(ListHidesTheEnded, {"lists_all_states": "exited"}),
    Expectation(ListHidesTheResting, {"lists_all_states": "created"}),
    Expectation(ListShowsEverybodys, {"hides_what_belongs_to_another_owner": "ContainerStatus"}),
    Expectation(ListDropsTheRecord, {"lists_all_states": "assert False"}),
    Expectation(InspectDropsTheRecord, {"finds_its_containers_again": "ports"}),
    Expectation(
        ExitCodeAlwaysZero, {"tells_the_exit_code[1]": "(0, ", "tells_the_exit_code[42]": "(0, "}
    ),
    Expectation(ExitNeverObserved, {"tells_the_exit_code": "False"}),
    Expectation(ExitWithoutTime, {"tells_the_exit_code": "finished_at"}),
    Expectation(
        SignalAsNegativeCode, {"tells_the_signal": "-9", "stop_kills_after_the_grace": "-9"}
    ),
    Expectation(
        StopNeverAsks,
        {
            "stop_asks_first": "137",
            "stop_kills_after_the_grace": ">= 0.5",
            "tells_what_ended_between_two_agents": "137",
            "finds_its_containers_again": "137",
        },
    ),
    Expectation(StopSleepsOutTheGrace, {"stop_asks_first": _LATE}, hangs=True),
    Expectation(StopIgnoresTheStubborn, {"stop_kills_after_the_grace": "RUNNING"}),
    Expectation(StopBlocksTheLoop, {"stop_kills_after_the_grace": "blocked the event loop"}),
    Expectation(KillLeavesDaemons, {"kill_leaves_no_process": "living"}),
    Expectation(RemoveLeavesDaemons, {"remove_kills_first": "living"}),
    Expectation(RemoveLeavesAll, {"remove_kills_first": "living"}),
    Expectation(RemoveRefusesWhatRuns, {"remove_kills_first": "runs"}, alone=True),
    Expectation(EndLeavesAHelper, {"the_end_of_the_main_process_ends_all": "marked"}),
    Expectation(RemoveTwiceRaises, {"ending_what_is_not_there_succeeds": "there is no"}),
    Expectation(StopOfTheEndedRaises, {"ending_what_is_not_there_succeeds": "has ended"}),
    Expectation(KillOfTheAbsentRaises, {"ending_what_is_not_there_succeeds": "there is no"}),
    Expectation(NameIsNeverFreeAgain, {"remove_kills_first": "was used"}),
    Expectation(
        StartsAreNotTold,
        {
            "tells_of_starts_and_ends": _LATE,
            "resumes_events_after_a_cursor": _LATE,
            "tells_what_ended_between_two_agents": _LATE,
        },
        hangs=True,
    ),
    Expectation(
        EndsAreNotTold,
        {
            "tells_of_starts_and_ends": _LATE,
            "resumes_events_after_a_cursor": _LATE,
            "tells_what_ended_between_two_agents": _LATE,
            "finds_its_containers_again": _LATE,
        },
        hangs=True,
    ),
    Expectation(
        EndsAreToldWithoutStatus,
        {
            "tells_of_starts_and_ends": "exit",
            "tells_what_ended_between_two_agents": "exit",
            "finds_its_containers_again": "None",
        },
    ),
    Expectation(CursorsStandStill, {"tells_of_starts_and_ends": "'0' < '0'"}),
    Expectation(
        CursorsAreIgnored,
        {"resumes_events_after_a_cursor": _LATE, "tells_what_ended_between_two_agents": _LATE},
        hangs=True,
    ),
    Expectation(
        EventsFail,
        {
            "tells_of_starts_and_ends": "the stream broke",
            "resumes_events_after_a_cursor": "the stream broke",
            "tells_what_ended_between_two_agents": "the stream broke",
            "finds_its_containers_again": "the stream broke",
        },
    ),
    Expectation(
        LogsOfTheEndedAreGone,
        {
            "keeps_the_output": "so long",
            "bounds_the_output": "<= 0",
            "gives_the_environment_and_the_directory": "good day",
        },
    ),
    Expectation(FollowingTheEndedIsSilent, {"keeps_the_output": "so long"}),
    Expectation(LogsOfTheRestingRaise, {"has_no_output_before_the_start": "has not been started"}),
    Expectation(LogsWithoutBound, {"bounds_the_output": "(100000 * 1.5)"}),
    Expectation(LogsKeepTheBeginning, {"bounds_the_output": "7999"}),
    Expectation(LogsKeepNextToNothing, {"bounds_the_output": "/ 4) <="}),
    Expectation(
        FollowNeverEnds,
        {"follows_the_output_to_the_end": _LATE},
        alone=True,
        hangs=True,
    ),
    Expectation(
        FollowDoesNotFollow,
        {"follows_the_output_to_the_end": "not found"},
        alone=True,
    ),
    Expectation(LogsOfTheAbsentAreEmpty, {"has_no_logs_of_what_is_not_there": "DID NOT RAISE"}),
    Expectation(HandlesWithWrongStartTime, {"names_the_first_process_surely": "start_time"}),
    Expectation(
        HandlesWithoutTheFirstPid,
        {
            "names_the_first_process_surely": "in (",
            "kill_leaves_no_process": _LATE,
            "remove_kills_first": _LATE,
        },
        hangs=True,
    ),
    Expectation(
        HandlesWithoutDaemons,
        {"kill_leaves_no_process": _LATE, "remove_kills_first": _LATE},
        hangs=True,
    ),
    Expectation(HandlesOfCgroupsThatAreNot, {"names_the_first_process_surely": "isdir"}),
    Expectation(
        HandlesOfTheEnded,
        {
            "names_the_first_process_surely": "DID NOT RAISE",
            "has_handles_of_what_runs_only": "DID NOT RAISE",
        },
    ),
    Expectation(VerifyIsAlwaysContent, {"verifies_what_it_promised": "2"}),
    Expectation(VerifyStopsAtTheFirst, {"verifies_what_it_promised": "2"}),
    Expectation(VerifyIsNeverContent, {"verifies_what_it_promised": "amiss"}),
    Expectation(
        RefusesAfterHavingTaken,
        {"refuses_before_it_takes": "PRESENT", "refuses_the_edits": "PRESENT"},
    ),
    Expectation(
        TakesWhatItCannotGive,
        {
            "refuses_before_it_takes[networks]": "DID NOT RAISE",
            "refuses_the_edits": "DID NOT RAISE",
        },
    ),
    Expectation(
        IgnoresWhatItSaysItRefuses,
        {"refuses_the_edits": "DID NOT RAISE"},
    ),
    Expectation(ExecOnlySaysItRan, {"refuses_the_optional_calls_it_lacks[exec]": "DID NOT RAISE"}),
    Expectation(FilesAreListedOnly, {"refuses_the_optional_calls_it_lacks[copy]": "DID NOT RAISE"}),
    Expectation(
        PullEndsAtOnce, {"refuses_the_optional_calls_it_lacks[images.pull]": "DID NOT RAISE"}
    ),
    Expectation(
        SavesNothing, {"refuses_the_optional_calls_it_lacks[images.save]": "DID NOT RAISE"}
    ),
    Expectation(
        CommitsWithoutBeingAbleTo, {"refuses_the_optional_calls_it_lacks[commit]": "DID NOT RAISE"}
    ),
    Expectation(
        NetworksCannotBeGivenBack,
        {"refuses_the_optional_calls_it_lacks[networks]": "no networks"},
    ),
    Expectation(
        ContainersDieWithTheAgent,
        {"finds_its_containers_again": "EXITED", "tells_what_ended_between_two_agents": "7"},
    ),
    Expectation(RestartForgetsWhatRuns, {"finds_its_containers_again": "None"}),
    Expectation(
        RestartForgetsEnds,
        {"finds_its_containers_again": _LATE, "tells_what_ended_between_two_agents": _LATE},
        hangs=True,
    ),
]


class _Suite(ContainerBackendContract):
    image: ClassVar[str] = "sh"
    backend: ClassVar[type[ProcessBackend]]

    @pytest.fixture
    def plugin(self) -> type[ProcessBackend]:
        return self.backend

    @pytest.fixture
    def config(self) -> Mapping[str, Any]:
        """Cgroups are not permitted everywhere; the faults are the same without."""
        return {"kill": "process-tree"}


globals().update(suites(_Suite, EXPECTED))
