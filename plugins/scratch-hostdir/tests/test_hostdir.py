"""hostdir beyond the contract: crashes, mounts, unprivileged users, roots that others own."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from scratch_hostdir.plugin import HostDirScratch

from agent_core.contracts.errors import (
    AgentError,
    Conflict,
    InvalidArgument,
    InvalidConfig,
    PluginError,
    PluginTimeout,
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "scratches"


@pytest.fixture
def scratches(root: Path) -> HostDirScratch:
    manager = HostDirScratch()
    manager.open({"root": str(root)})
    return manager


def test_all_directories_are_private(scratches: HostDirScratch, root: Path) -> None:
    path = Path(scratches.create("k1").path)

    assert path == root / "k1"
    modes = {p.name: oct(p.stat().st_mode & 0o777) for p in [root, path, *path.iterdir()]}
    assert modes == dict.fromkeys(["scratches", "k1", "config", "work"], "0o700")


def test_a_create_that_was_cut_short_is_finished_by_the_next(
    scratches: HostDirScratch, root: Path
) -> None:
    (root / "k1").mkdir(mode=0o700)

    assert sorted(p.name for p in Path(scratches.create("k1").path).iterdir()) == ["config", "work"]


def test_what_a_crash_left_half_removed_is_listed_and_finished(
    scratches: HostDirScratch, root: Path
) -> None:
    (root / ".trash" / "k1" / "0123" / "work" / "deep").mkdir(parents=True)
    scratches.create("k2")

    assert [s.kernel_id for s in scratches.list()] == ["k1", "k2"]
    assert scratches.list()[0].path == str(root / ".trash" / "k1")
    scratches.destroy("k1")
    assert [s.kernel_id for s in scratches.list()] == ["k2"]


def test_a_removal_that_fails_is_listed_until_it_succeeds(
    scratches: HostDirScratch, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratches.create("k1")
    with monkeypatch.context() as patch:
        patch.setattr("scratch_hostdir.plugin.empty", _fail)
        with pytest.raises(PluginError, match="could not destroy") as refused:
            scratches.destroy("k1")
    assert refused.value.details["errno"] == "EBUSY"
    assert "unmount" in str(refused.value.hint)
    assert not (root / "k1").exists()
    assert [s.kernel_id for s in scratches.list()] == ["k1"]

    scratches.create("k1")
    scratches.destroy("k1")
    assert list(scratches.list()) == []


def _fail(trash: int) -> None:
    raise OSError(16, "Device or resource busy")


def test_a_link_in_the_place_of_a_scratch_is_not_followed(
    scratches: HostDirScratch, root: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    (outside / "work").mkdir(parents=True)
    (root / "k1").symlink_to(outside)

    with pytest.raises(PluginError):
        scratches.create("k1")
    assert list(scratches.list()) == []
    scratches.destroy("k1")
    assert (outside / "work").is_dir()
    assert not (root / "k1").is_symlink()


def test_measuring_a_link_in_the_place_of_a_scratch_is_refused(
    scratches: HostDirScratch, root: Path
) -> None:
    (root / "k1").symlink_to("/")

    with pytest.raises(AgentError):
        scratches.usage("k1")


def test_files_with_several_names_count_once(scratches: HostDirScratch) -> None:
    work = Path(scratches.create("k1").path) / "work"
    (work / "a").write_bytes(os.urandom(1 << 20))
    (work / "b").hardlink_to(work / "a")

    assert 1 << 20 <= scratches.usage("k1").used < 2 << 20


def test_measuring_gives_up_in_time_and_says_so(root: Path) -> None:
    manager = HostDirScratch()
    manager.open({"root": str(root), "usage-deadline": 1e-9})
    (Path(manager.create("k1").path) / "work" / "file").write_text("x")

    with pytest.raises(PluginTimeout, match="could not be measured"):
        manager.usage("k1")


@pytest.mark.parametrize("kernel_id", [".trash", ".trash/k1", "..", "k1/work"])
def test_the_trash_and_the_parts_are_no_kernels(scratches: HostDirScratch, kernel_id: str) -> None:
    with pytest.raises(InvalidArgument):
        scratches.destroy(kernel_id)


def test_a_root_that_others_may_write_is_refused(root: Path) -> None:
    root.mkdir()
    root.chmod(0o777)

    with pytest.raises(InvalidConfig, match="others may rename"):
        HostDirScratch().open({"root": str(root)})


def test_a_root_that_is_a_file_is_refused(root: Path) -> None:
    root.write_text("")

    with pytest.raises(InvalidConfig, match="cannot hold scratches"):
        HostDirScratch().open({"root": str(root)})


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to mount")
def test_what_is_mounted_inside_is_refused_and_not_emptied(
    scratches: HostDirScratch, tmp_path: Path
) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_text("kept")
    point = Path(scratches.create("k1").path) / "work" / "mnt"
    point.mkdir()
    mounted = subprocess.run(["mount", "--bind", precious, point], check=False, capture_output=True)
    if mounted.returncode:
        pytest.skip("this machine does not let us mount")
    try:
        with pytest.raises(PluginError) as refused:
            scratches.destroy("k1")
        assert "mounted" in str(refused.value.hint)
        assert (precious / "file").read_text() == "kept"
        assert [s.kernel_id for s in scratches.list()] == ["k1"]
    finally:
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
        inside = [line.split()[4] for line in lines if str(tmp_path) in line.split()[4]]
        for where in inside:
            subprocess.run(["umount", where], check=True)
    scratches.destroy("k1")
    assert list(scratches.list()) == []
    assert (precious / "file").read_text() == "kept"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become somebody else")
def test_an_unprivileged_agent_removes_what_its_user_locked() -> None:
    program = """
import os, sys
from pathlib import Path
from scratch_hostdir.plugin import HostDirScratch
os.setgroups([]); os.setgid(65534); os.setuid(65534)
manager = HostDirScratch()
manager.open({"root": sys.argv[1]})
work = Path(manager.create("k1").path) / "work"
(work / "a" / "b").mkdir(parents=True)
(work / "a" / "b" / "c").write_text("x")
(work / "a" / "b").chmod(0)
(work / "a").chmod(0)
manager.usage("k1")
manager.destroy("k1")
assert manager.list() == [], manager.list()
"""
    with tempfile.TemporaryDirectory() as home:
        os.chown(home, 65534, 65534)
        command = [sys.executable, "-c", program, f"{home}/scratches"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr


def test_two_agents_share_a_root_and_each_lists_its_own(root: Path) -> None:
    one, two, old = HostDirScratch(), HostDirScratch(), HostDirScratch()
    one.open({"root": str(root), "owner": "one"})
    two.open({"root": str(root), "owner": "two"})
    old.open({"root": str(root)})
    one.create("k1")
    two.create("k2")
    old.create("unmarked")
    assert [s.kernel_id for s in one.list()] == ["k1", "unmarked"]
    assert [s.kernel_id for s in two.list()] == ["k2", "unmarked"]
    assert [s.owner for s in one.list()] == ["one", None]
    two.destroy("k2")
    assert [s.kernel_id for s in one.list()] == ["k1", "unmarked"]


def test_a_user_cannot_give_a_scratch_to_another_agent(root: Path) -> None:
    one, two = HostDirScratch(), HostDirScratch()
    one.open({"root": str(root), "owner": "one"})
    two.open({"root": str(root), "owner": "two"})
    work = Path(one.create("k1").path) / "work"
    (work / ".owner").write_text("two")
    assert two.list() == []
    two.destroy("k1")
    assert work.is_dir()
    (work / ".owner").write_bytes(b"\xff")
    assert [s.owner for s in one.list()] == ["one"]


def test_an_agent_never_touches_another_ones_scratch_of_the_same_kernel_id(root: Path) -> None:
    one, two = HostDirScratch(), HostDirScratch()
    one.open({"root": str(root), "owner": "one"})
    two.open({"root": str(root), "owner": "two"})
    precious = Path(one.create("k1").path) / "work" / "precious"
    precious.write_text("work")
    with pytest.raises(Conflict, match="another agent"):
        two.create("k1")
    two.destroy("k1")
    assert precious.read_text() == "work"
    one.destroy("k1")
    assert one.list() == []
