"""The config files: what a kernel finds of itself, of what it was given, and of its session."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

from agent_core.contracts.edits import ContainerEdits, MergedEdits
from agent_core.contracts.errors import KernelFailed, Unsupported
from agent_core.failpoints import Effect
from agent_core.kernels.assembly import Assembly
from agent_core.kernels.environment import environment_of, overridden
from agent_core.kernels.files.contents import files_of
from agent_core.kernels.files.folder import put_files
from agent_core.kernels.files.home import put_home
from agent_core.kernels.files.resource import left_out
from agent_core.kernels.key_pairs import KeyPair
from agent_core.kernels.launching import CONFIG, RESULTS, WORK, launch_of, own_edits, paths_of
from agent_core.kernels.steps.base import Step
from agent_core.kernels.user import User
from agent_core.ledger import HoldRow

MAKE = Effect("ssh-key-make", "a session's SSH key pair is made, or kept as it was given")
REMOVE = Effect("ssh-key-remove", "a session's SSH key pair is removed")


_Pair = Callable[[Assembly], KeyPair | None]
"""What finds the pair of a kernel's session; called in a thread."""


class ConfigFilesStep(Step):
    """Puts together what the container is told, and writes it into its config directory.

    The user's own files go into the work directory, where they are not yet.

    All of it goes with the scratch, so that nothing of it is held, but for the key pair of a
    session: the first of its kernels makes it, and the last one gives it back.
    """

    name = "config"
    kind = "ssh-key"

    def holds(self, build: Assembly) -> Sequence[HoldRow]:
        """One use of the session's key pair, where it has one."""
        if not _has_pair(build):
            return ()
        spec = build.spec
        return [HoldRow(self.kind, spec.session_id, spec.kernel_id, build.incarnation, shared=True)]

    async def take(self, build: Assembly) -> None:
        """Assemble the environment and write the files."""
        build.bundle = await self.services.bundle.path()
        if not _has_pair(build):
            await self._write(build, _none)
        elif await self._is_first(build):
            await self._write(build, self._new_pair)
        else:
            await self._write(build, self._pair)

    async def take_again(self, build: Assembly, held: Sequence[HoldRow]) -> None:
        """Write them anew; the pair stays, also one that its giver alone knew."""
        build.bundle = await self.services.bundle.path()
        await self._write(build, self._pair)

    async def give_back(self, hold: HoldRow) -> None:
        """Remove the pair; called for the last kernel of the session."""
        with REMOVE:
            async with asyncio.timeout(self.services.settings.call_timeout):
                await asyncio.to_thread(self.services.key_pairs.forget, hold.key)

    async def _write(self, build: Assembly, pair: _Pair) -> None:
        self._assemble(build)
        if (directory := _folder(build)) is None:
            return
        async with asyncio.timeout(self.services.settings.call_timeout):
            user = self.services.settings.kernel_user
            await asyncio.to_thread(_put, build, directory, pair, user)

    def _assemble(self, build: Assembly) -> None:
        services = self.services
        build.paths = paths_of(services, build)
        build.launch = launch_of(services, build, build.paths)
        mounts = ContainerEdits(mounts=build.launch.mounts)
        build.edits = build.edits | MergedEdits.of("runner", mounts)
        own = own_edits(build, build.paths)
        build.edits = build.edits | MergedEdits.of("agent", own)
        build.env = environment_of(services, build)
        build.warnings += [*overridden(build), *left_out(build)]

    async def _is_first(self, build: Assembly) -> bool:
        key = build.spec.session_id
        holders = await self.services.ledger.read(lambda tx: tx.holders(self.kind, key))
        return {*holders} <= {build.spec.kernel_id}

    def _new_pair(self, build: Assembly) -> KeyPair | None:
        # What lies there is of an earlier session of that id, whose end a lost ledger did not see.
        self.services.key_pairs.forget(build.spec.session_id)
        return self._pair(build)

    def _pair(self, build: Assembly) -> KeyPair | None:
        session, given = build.spec.session_id, build.spec.cluster.ssh_keypair
        try:
            with MAKE:
                pair = self.services.key_pairs.ensure(session, given)
        except Unsupported as exc:
            build.warnings.append(f"{exc.message}: {exc.hint}")
            return None
        if given not in (None, pair):
            # A kernel that failed here would end the whole session, which runs.
            build.warnings.append(f"session {session} has another SSH key pair than the one given")
        return pair


def _folder(build: Assembly) -> Path | None:
    """Find the config directory; a simulated scratch is nowhere, and has none."""
    scratch = build.scratch
    return Path(scratch.path) / CONFIG if scratch is not None and scratch.path else None


def _has_pair(build: Assembly) -> bool:
    return build.spec.cluster.has_keys and _folder(build) is not None


def _none(_: Assembly) -> None:
    """Find no pair: a kernel that is its whole session needs none."""


def _put(build: Assembly, directory: Path, pair: _Pair, user: User) -> None:
    try:
        (directory / RESULTS).mkdir(mode=0o700, exist_ok=True)
        keys = pair(build)
        put_files(directory, files_of(build, keys), user)
        work = directory.parent / WORK
        user.own(directory, directory / RESULTS, work)
        build.warnings += put_home(work, build.spec, keys, user)
    except OSError as exc:
        raise KernelFailed(f"cannot write the config files: {exc}") from exc
