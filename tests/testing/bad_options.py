"""Backends that are bad in one way each at commands, images and networks.

All but the fault is the dummy backend. `test_backend_conformance_bites` runs this file.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from agent_backend_dummy.backend import DummyBackend
from corpus import Expectation, suites
from simulation import SimulatedSuite

from agent_core.contracts.backend import (
    ContainerSpec,
    ExitStatus,
    Image,
)
from agent_core.contracts.errors import (
    Conflict,
    ImageNotFound,
    InvalidArgument,
    KernelFailed,
    NotFound,
    Unsupported,
    WrongState,
)
from agent_core.contracts.info import Support
from agent_core.testing.backend_tars import Member, packed, pieces

Members = Mapping[str, Member]

# -- commands --------------------------------------------------------------------------------


class _Runs(DummyBackend):
    """Tells ends of commands in a way of its own."""

    code = 0

    async def exec(self, name: str, argv: Sequence[str]) -> ExitStatus:
        return replace(await super().exec(name, argv), code=self.code)


class CommandsAlwaysSucceed(_Runs):
    pass


class CommandsAlwaysFail(_Runs):
    code = 1


class CommandsAreBySignal(DummyBackend):
    async def exec(self, name: str, argv: Sequence[str]) -> ExitStatus:
        status = await super().exec(name, argv)
        return replace(status, signal=status.code)


class CommandsEndTheContainer(DummyBackend):
    async def exec(self, name: str, argv: Sequence[str]) -> ExitStatus:
        status = await super().exec(name, argv)
        await self.kill(name)
        return status


class CommandsWaitForAReader(DummyBackend):
    async def exec(self, name: str, argv: Sequence[str]) -> ExitStatus:
        if "flood" in argv:
            await asyncio.Event().wait()
        return await super().exec(name, argv)


class AbsentCommandsSucceed(DummyBackend):
    async def exec(self, name: str, argv: Sequence[str]) -> ExitStatus:
        try:
            return await super().exec(name, argv)
        except KernelFailed:
            return ExitStatus(0)


class AbsentCommandsEndTheContainer(DummyBackend):
    async def exec(self, name: str, argv: Sequence[str]) -> ExitStatus:
        try:
            return await super().exec(name, argv)
        except KernelFailed:
            await self.kill(name)
            raise


class CommandsOfTheRestingSucceed(DummyBackend):
    async def exec(self, name: str, argv: Sequence[str]) -> ExitStatus:
        try:
            return await super().exec(name, argv)
        except WrongState:
            return ExitStatus(0)


class CommandsStartTheResting(DummyBackend):
    async def exec(self, name: str, argv: Sequence[str]) -> ExitStatus:
        with contextlib.suppress(WrongState):
            await self.start(name)
        return await super().exec(name, argv)


class TheEndedIsNotFound(DummyBackend):
    async def exec(self, name: str, argv: Sequence[str]) -> ExitStatus:
        try:
            return await super().exec(name, argv)
        except WrongState as exc:
            raise NotFound(f"there is no {name}") from exc


class CommandsOfTheAbsentSucceed(DummyBackend):
    async def exec(self, name: str, argv: Sequence[str]) -> ExitStatus:
        try:
            return await super().exec(name, argv)
        except NotFound:
            return ExitStatus(0)


# -- images ----------------------------------------------------------------------------------


class CommitsOfTheAbsentSucceed(DummyBackend):
    async def commit(self, name: str, image: str) -> str:
        try:
            return await super().commit(name, image)
        except NotFound:
            return "sha256:0"


class CommitsAreNotMade(DummyBackend):
    async def commit(self, name: str, image: str) -> str:
        digest = await super().commit(name, image)
        await self.remove_image(image)
        return digest


class CommitsHaveNoDigest(DummyBackend):
    async def commit(self, name: str, image: str) -> str:
        await super().commit(name, image)
        return ""


class CommitsTellTheDigestBefore(DummyBackend):
    async def commit(self, name: str, image: str) -> str:
        await super().commit(name, image)
        return (await self.inspect_image("python")).digest


class CommitsAreNotListed(DummyBackend):
    async def images(self) -> Sequence[Image]:
        return [image for image in await super().images() if image.name == "python"]


class CommitsCannotBeStarted(DummyBackend):
    async def create(self, spec: ContainerSpec) -> None:
        if spec.image != "python":
            raise ImageNotFound(f"image {spec.image} cannot be started")
        await super().create(spec)


class CommitsLeaveTheFilesOut(DummyBackend):
    async def commit(self, name: str, image: str) -> str:
        digest = await super().commit(name, image)
        self.images_here.add(image)
        return digest


class CommitsToAnyName(DummyBackend):
    async def commit(self, name: str, image: str) -> str:
        try:
            return await super().commit(name, image)
        except InvalidArgument:
            return self.images_here.commit(name, image)


class MalformedNamesAreRefusedTooLate(DummyBackend):
    async def commit(self, name: str, image: str) -> str:
        self.images_here.add(image)
        return await super().commit(name, image)


class PullsBringAnything(DummyBackend):
    async def pull_image(self, name: str) -> AsyncIterator[Mapping[str, Any]]:
        try:
            async for item in super().pull_image(name):
                yield item
        except ImageNotFound:
            yield {"layer": "", "status": "complete"}


class FailedPullsAreListed(DummyBackend):
    async def pull_image(self, name: str) -> AsyncIterator[Mapping[str, Any]]:
        self.images_here.add(name)
        self.images_here.refuse_unknown("no-such-image-anywhere-else")
        yield {}


class PullsFailWithoutAHint(DummyBackend):
    async def pull_image(self, name: str) -> AsyncIterator[Mapping[str, Any]]:
        try:
            async for item in super().pull_image(name):
                yield item
        except ImageNotFound as exc:
            raise ImageNotFound(str(exc)) from exc


class PullsFailAsNotFound(DummyBackend):
    async def pull_image(self, name: str) -> AsyncIterator[Mapping[str, Any]]:
        try:
            async for item in super().pull_image(name):
                yield item
        except ImageNotFound as exc:
            raise NotFound(f"no registry has {name}", hint="Look it up.") from exc


class _Saves(DummyBackend):
    """Writes images to files, which the dummy backend does not."""

    members: ClassVar[Members] = {
        "manifest.json": Member(0o644, b"[]"),
        "layer.tar": Member(0o644, bytes(1 << 20)),
    }

    def capabilities(self) -> Mapping[str, Support]:
        return {**super().capabilities(), "images.save": Support.YES}

    async def save_image(self, name: str) -> AsyncIterator[bytes]:
        await self.inspect_image(name)
        async for piece in pieces(packed(self.members)):
            yield piece


class NothingWrongWithSaves(_Saves):
    """The control: nothing fails."""


class SavesLayersAlone(_Saves):
    members: ClassVar[Members] = {"layer.tar": Member(0o644, b"layer")}


class SavesAreCutShort(_Saves):
    async def save_image(self, name: str) -> AsyncIterator[bytes]:
        whole = b"".join([piece async for piece in super().save_image(name)])
        async for piece in pieces(whole[: len(whole) // 2]):
            yield piece


class SavesAreOnePiece(_Saves):
    async def save_image(self, name: str) -> AsyncIterator[bytes]:
        yield b"".join([piece async for piece in super().save_image(name)])


class SavesWhatIsNotThere(_Saves):
    async def save_image(self, name: str) -> AsyncIterator[bytes]:
        async for piece in super().save_image("python"):
            yield piece


# -- networks --------------------------------------------------------------------------------


class _Networks(DummyBackend):
    """Knows which networks there are."""

    def has(self, name: str) -> bool:
        return name in self.engine.store.names("network")


class NetworksAreMadeOnce(_Networks):
    async def create_network(self, name: str) -> None:
        if self.has(name):
            raise Conflict(f"network {name} is there already")
        await super().create_network(name)


class NetworksAreRemovedOnce(_Networks):
    async def remove_network(self, name: str) -> None:
        if not self.has(name):
            raise NotFound(f"there is no network {name}")
        await super().remove_network(name)


class NetworksCannotBeJoined(DummyBackend):
    async def create(self, spec: ContainerSpec) -> None:
        if spec.edits.networks:
            raise Unsupported("networks cannot be joined")
        await super().create(spec)


# -- what fails ------------------------------------------------------------------------------

_LATE = "TimeoutError"
_NOT_RAISED = "DID NOT RAISE"

EXPECTED = [
    Expectation(CommandsAlwaysSucceed, {"exec_tells_the_exit_code[3]": "(0, None)"}),
    Expectation(
        CommandsAlwaysFail,
        {"exec_tells_the_exit_code": "(1, None)", "exec_waits_for_the_end": "1 == 0"},
    ),
    Expectation(CommandsAreBySignal, {"exec_tells_the_exit_code": "signal"}),
    Expectation(CommandsEndTheContainer, {"exec_tells_the_exit_code": "EXITED"}),
    Expectation(CommandsWaitForAReader, {"exec_waits_for_the_end": _LATE}, hangs=True),
    Expectation(AbsentCommandsSucceed, {"exec_says_that_a_command_is_not_there": "0 in {"}),
    Expectation(AbsentCommandsEndTheContainer, {"exec_says_that_a_command": "EXITED"}),
    Expectation(CommandsOfTheRestingSucceed, {"exec_needs_a_container_that_runs": _NOT_RAISED}),
    Expectation(CommandsStartTheResting, {"exec_needs_a_container_that_runs": "has ended"}),
    Expectation(TheEndedIsNotFound, {"exec_needs_a_container_that_runs": "there is no"}),
    Expectation(
        CommandsOfTheAbsentSucceed, {"finds_nothing_in_what_is_not_there[exec]": _NOT_RAISED}
    ),
    Expectation(
        CommitsOfTheAbsentSucceed, {"finds_nothing_in_what_is_not_there[commit]": _NOT_RAISED}
    ),
    Expectation(
        CommitsAreNotMade,
        {
            "commits_a_container_to_an_image": "is not on this node",
            "commits_the_files_of_a_container": "is not on this node",
        },
    ),
    Expectation(CommitsHaveNoDigest, {"commits_a_container_to_an_image": "assert ''"}),
    Expectation(CommitsTellTheDigestBefore, {"commits_a_container_to_an_image": "sha256:"}),
    Expectation(CommitsAreNotListed, {"commits_a_container_to_an_image": "assert Image"}),
    Expectation(
        CommitsCannotBeStarted,
        {
            "commits_a_container_to_an_image": "cannot be started",
            "commits_the_files_of_a_container": "cannot be started",
        },
    ),
    Expectation(CommitsLeaveTheFilesOut, {"commits_the_files_of_a_container": "there is no"}),
    Expectation(CommitsToAnyName, {"commits_to_no_malformed_name": "UPPER"}),
    Expectation(MalformedNamesAreRefusedTooLate, {"commits_to_no_malformed_name": "before"}),
    Expectation(PullsBringAnything, {"pulls_nothing_that_no_registry_has": _NOT_RAISED}),
    Expectation(FailedPullsAreListed, {"pulls_nothing_that_no_registry_has": "before"}),
    Expectation(PullsFailWithoutAHint, {"pulls_nothing_that_no_registry_has": "hint"}),
    Expectation(PullsFailAsNotFound, {"pulls_nothing_that_no_registry_has": "no registry has"}),
    Expectation(NothingWrongWithSaves, {}),
    Expectation(SavesLayersAlone, {"saves_an_image": "manifest.json"}),
    Expectation(SavesAreCutShort, {"saves_an_image": "ReadError"}),
    Expectation(SavesAreOnePiece, {"saves_an_image": "<= 1048576"}),
    Expectation(SavesWhatIsNotThere, {"saves_an_image": _NOT_RAISED}),
    Expectation(NetworksAreMadeOnce, {"makes_and_removes_a_network_twice": "is there already"}),
    Expectation(NetworksAreRemovedOnce, {"makes_and_removes_a_network_twice": "there is no"}),
    Expectation(NetworksCannotBeJoined, {"makes_and_removes_a_network_twice": "cannot be joined"}),
]


globals().update(suites(SimulatedSuite, EXPECTED))
