"""Where a kernel sees its directories, and what is mounted for that."""

from pathlib import Path

import pytest

from agent_core.contracts.backend import Paths
from agent_core.contracts.edits import Mount, Permission
from agent_core.contracts.errors import InternalError
from agent_core.contracts.scratch import Scratch
from agent_core.kernels.assembly import Assembly
from agent_core.kernels.launching import own_edits, paths_of
from agent_core.kernels.spec import Faults, read_spec

INSIDE = Paths("/home", "/home/config", "/opt/kernel", "/run/kernel")


def assembly(scratch="/s/k", bundle="/bundles/1"):
    spec = read_spec({"kernel_id": "k", "session_id": "s", "image": "python"}, Faults())
    build = Assembly(spec=spec, incarnation=1, container="t.k.1.main.0", run_dir=Path("/r/k"))
    build.scratch = Scratch("k", scratch, owner="t")
    build.bundle = bundle
    return build


def test_a_kernel_that_sees_the_hosts_files_has_nothing_mounted(live):
    async def body(world):
        build = assembly()
        seen = paths_of(world.services, build)
        assert seen == Paths("/s/k", "/s/k/config", "/bundles/1", "/r/k")
        edits = own_edits(build, seen)
        assert edits.mounts == ()
        assert edits.labels == {"ai.backend.kernel-id": "k", "ai.backend.session-id": "s"}

    live(body)


def test_a_kernel_that_sees_others_has_its_own_mounted_and_only_its_work_writable(live):
    async def body(world):
        world.backend.inside = INSIDE
        build = assembly()
        seen = paths_of(world.services, build)
        assert seen == INSIDE
        assert own_edits(build, seen).mounts == (
            Mount("/s/k/work", "/home/work", Permission.RW),
            Mount("/s/k/config", "/home/config", Permission.RO),
            Mount("/s/k/config/runner", "/home/config/runner", Permission.RW),
            Mount("/r/k", "/run/kernel", Permission.RO),
            Mount("/bundles/1", "/opt/kernel", Permission.RO),
        )

    live(body)


def test_where_no_bundle_is_needed_none_is_mounted(live):
    async def body(world):
        world.backend.inside = INSIDE
        build = assembly(bundle="")
        targets = [mount.target for mount in own_edits(build, INSIDE).mounts]
        assert "/opt/kernel" not in targets
        assert targets[-1] == "/run/kernel"

    live(body)


def test_a_simulated_scratch_is_nothing_that_could_be_mounted(live):
    async def body(world):
        assert own_edits(assembly(scratch=""), INSIDE).mounts == ()

    live(body)


def test_a_kernel_is_created_with_what_the_backend_hides_mounted(live):
    async def body(world):
        world.backend.inside = INSIDE
        world.backend.mute = True
        await world.create()
        await world.step("runner")
        (spec,) = world.backend.specs.values()
        places = {mount.target: Path(mount.source) for mount in spec.edits.mounts}
        assert places["/home/work"] == world.scratch.root / "k" / "work"
        assert places["/home/config"] == world.scratch.root / "k" / "config"
        assert spec.cwd == "/home/work"
        assert spec.argv[1].startswith("/run/kernel/")
        await world.kernels.destroy("k", "tired")
        await world.ended()
        await world.clean()

    live(body)


def test_before_its_scratch_a_kernel_has_no_place(live):
    async def body(world):
        build = assembly()
        build.scratch = None
        with pytest.raises(InternalError, match="no scratch yet"):
            paths_of(world.services, build)

    live(body)
