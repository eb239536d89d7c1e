"""The part of the backends' suite that is about what a backend may lack.

Commands, files, images and networks: each check is skipped where the backend declares that it lacks
them, and there the call has to refuse.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Final

import pytest

from agent_core.contracts.backend import ContainerSpec, ContainerState
from agent_core.contracts.edits import ContainerEdits
from agent_core.contracts.errors import AgentError, NotFound, Unsupported, WrongState
from agent_core.contracts.info import Support
from agent_core.testing.backend_bench import Bench, at_work, every, needs
from agent_core.testing.backend_files import TREE
from agent_core.testing.backend_images import ImageChecks
from agent_core.testing.backend_tars import put, taken

_NOT_EXECUTED: Final = {126, 127}
"""How a shell ends that cannot start a command."""

_Call = Callable[[Bench, str], Awaitable[object]]
_CALLS: Final[Mapping[str, tuple[_Call, ...]]] = {
    "networks": (lambda bench, name: bench.backend.create_network(name),),
    "exec": (lambda bench, name: bench.backend.exec(name, ("/bin/true",)),),
    "copy": (
        lambda bench, name: put(bench.backend, name, ".", TREE),
        lambda bench, name: taken(bench.backend, name, "."),
        lambda bench, name: bench.backend.list_files(name, "."),
    ),
    "commit": (lambda bench, name: bench.backend.commit(name, name),),
    "images.pull": (lambda bench, name: every(bench.backend.pull_image(name)),),
    "images.save": (lambda bench, name: every(bench.backend.save_image(name)),),
}
"""The calls that go with a capability, each about something of a name that nothing has."""


class OptionalChecks(ImageChecks):
    """What is asked of the calls that a backend may lack."""

    @pytest.mark.parametrize("capability", _CALLS)
    @at_work
    async def test_refuses_the_optional_calls_it_lacks(self, bench: Bench, capability: str) -> None:
        """What is declared as missing is refused when called, not half done."""
        if bench.backend.capabilities().get(capability) is not Support.NO:
            pytest.skip(f"this backend declares {capability}")
        for call in _CALLS[capability]:
            with pytest.raises(Unsupported):
                await call(bench, bench.name())
        if capability == "networks":
            await bench.backend.remove_network(bench.name())

    @pytest.mark.parametrize("capability", ["exec", "copy", "commit"])
    @at_work
    async def test_finds_nothing_in_what_is_not_there(self, bench: Bench, capability: str) -> None:
        """Commands, files and images of an absent container are an error."""
        needs(bench, capability)
        for call in _CALLS[capability]:
            with pytest.raises(NotFound):
                await call(bench, bench.name())

    # -- commands ----------------------------------------------------------------------------

    @pytest.mark.parametrize("code", [0, 3])
    @at_work
    async def test_exec_tells_the_exit_code(self, bench: Bench, code: int) -> None:
        """The code of a further process is its own, and its end is not that of the container."""
        spec = await self._for_commands(bench)
        status = await bench.backend.exec(spec.name, self.argv_exit(code))
        assert (status.code, status.signal) == (code, None)
        assert (await bench.inspect(spec)).state is ContainerState.RUNNING

    @at_work
    async def test_exec_waits_for_the_end_whatever_is_printed(self, bench: Bench) -> None:
        """A command that prints more than a pipe holds ends, too."""
        spec = await self._for_commands(bench)
        assert (await bench.backend.exec(spec.name, self.argv_flood(8000))).code == 0

    @at_work
    async def test_exec_says_that_a_command_is_not_there(self, bench: Bench) -> None:
        """A command that cannot be started is an error, or ends with 126 or 127 as in a shell."""
        spec = await self._for_commands(bench)
        with suppress(AgentError):
            status = await bench.backend.exec(spec.name, self.argv_missing())
            assert status.code in _NOT_EXECUTED
        assert (await bench.inspect(spec)).state is ContainerState.RUNNING

    @at_work
    async def test_exec_needs_a_container_that_runs(self, bench: Bench) -> None:
        """Nothing is run in a container that was not started, or has ended."""
        needs(bench, "exec")
        spec = await bench.created(self.argv_exit(0))
        with pytest.raises(WrongState):
            await bench.backend.exec(spec.name, self.argv_exit(0))
        await bench.backend.start(spec.name)
        await bench.ended(spec)
        with pytest.raises(WrongState):
            await bench.backend.exec(spec.name, self.argv_exit(0))

    async def _for_commands(self, bench: Bench) -> ContainerSpec:
        needs(bench, "exec")
        return await bench.ready(self.argv_sleep())

    # -- networks ----------------------------------------------------------------------------

    @at_work
    async def test_makes_and_removes_a_network_twice(self, bench: Bench) -> None:
        """Making a network that is there and removing one that is not succeed."""
        needs(bench, "networks")
        name = bench.name()
        await bench.backend.create_network(name)
        try:
            await bench.backend.create_network(name)
            edits = ContainerEdits(networks=(name,))
            spec = await bench.ready(self.argv_sleep(), edits=edits)
            await bench.backend.remove(spec.name)
        finally:
            await bench.backend.remove_network(name)
        await bench.backend.remove_network(name)
