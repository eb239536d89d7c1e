"""The conformance suite of scratch managers."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from agent_core.contracts.errors import AgentError, NotFound, Unsupported
from agent_core.contracts.info import Support
from agent_core.contracts.scratch import Scratch, ScratchManager, ScratchUsage
from agent_core.testing.lifetime import PluginContract, opened

_MIB = 1 << 20

HOSTILE_IDS = (
    "",
    ".",
    "..",
    "../outside",
    "a/b",
    "/etc",
    "a\0b",
    "-rf",
    ".hidden",
    "a\nb",
    "x" * 300,
)
"""Kernel ids that name something else than one directory."""


class ScratchManagerContract(PluginContract):
    """What every scratch manager does, whatever holds the files.

    class TestAcmeScratch(ScratchManagerContract):
        @pytest.fixture
        def plugin(self):
            return AcmeScratch

        @pytest.fixture
        def config(self, tmp_path):
            return {"root": str(tmp_path / "scratches")}

    The capability ``size-limit`` says whether a scratch can be bounded, and ``directory``, where it
    is NO, that a scratch is simulated.
    """

    kind = "scratch"

    @pytest.fixture
    def config(self, tmp_path: Path) -> Mapping[str, Any]:
        """The core gives every scratch manager the directory that scratches go to."""
        return {"root": str(tmp_path / "scratches")}

    @pytest.fixture
    def scratches(
        self, plugin: type[ScratchManager], config: Mapping[str, Any]
    ) -> Iterator[ScratchManager]:
        """The plugin, opened; what a test leaves is destroyed."""
        instance: ScratchManager = opened(plugin, config)
        yield instance
        for left in instance.list():
            instance.destroy(left.kernel_id)
        instance.close()

    def test_a_scratch_is_a_private_directory_with_its_two_parts(
        self, scratches: ScratchManager
    ) -> None:
        """It is there when create returns, can be written, and is nobody else's."""
        _needs_a_directory(scratches)
        scratch = scratches.create("k1")
        path = Path(scratch.path)
        assert path.is_absolute()
        assert scratch.kernel_id == "k1"
        assert path.stat().st_mode & 0o007 == 0, "others may look into a kernel's scratch"
        for part in ("config", "work"):
            (path / part / "file").write_bytes(b"x")
        self.check_plain(Scratch, scratch)

    def test_a_scratch_that_is_no_directory_has_no_path(self, scratches: ScratchManager) -> None:
        """A simulated scratch says so, comes and goes like any other, and is nowhere."""
        if scratches.info.supports("directory") is not Support.NO:
            pytest.skip("its scratches are directories")
        first = scratches.create("k1")
        assert first.path == ""
        assert scratches.create("k1") == first
        assert scratches.usage("k1").used == 0
        scratches.destroy("k1")
        scratches.destroy("k1")
        assert list(scratches.list()) == []

    def test_creating_again_returns_what_is_there(self, scratches: ScratchManager) -> None:
        """A repeated create loses nothing."""
        _needs_a_directory(scratches)
        first = scratches.create("k1")
        (Path(first.path) / "work" / "kept").write_text("kept")
        assert scratches.create("k1") == first
        assert (Path(first.path) / "work" / "kept").read_text() == "kept"

    def test_kernels_do_not_share(self, scratches: ScratchManager) -> None:
        """Each kernel has its own, and destroying one leaves the other."""
        _needs_a_directory(scratches)
        one, two = (Path(scratches.create(k).path) for k in ("k1", "k2"))
        (two / "work" / "kept").write_text("kept")
        scratches.destroy("k1")
        assert not one.exists()
        assert (two / "work" / "kept").read_text() == "kept"

    def test_destroy_removes_everything_and_succeeds_again(self, scratches: ScratchManager) -> None:
        """Destroying twice, or what never was, succeeds."""
        _needs_a_directory(scratches)
        path = Path(scratches.create("k1").path)
        (path / "work" / "deep" / "er").mkdir(parents=True)
        (path / "work" / "deep" / "er" / "file").write_bytes(b"x" * 1000)
        scratches.destroy("k1")
        scratches.destroy("k1")
        scratches.destroy("never-was")
        assert not path.exists()
        assert list(scratches.list()) == []

    def test_a_destroyed_scratch_can_be_created_anew(self, scratches: ScratchManager) -> None:
        """The new one is empty."""
        _needs_a_directory(scratches)
        path = Path(scratches.create("k1").path)
        (path / "work" / "old").write_text("old")
        scratches.destroy("k1")
        assert not (Path(scratches.create("k1").path) / "work" / "old").exists()

    def test_list_knows_all_that_exist_also_after_a_restart(
        self, scratches: ScratchManager, plugin: type[ScratchManager], config: Mapping[str, Any]
    ) -> None:
        """A manager that is opened anew finds what another one made."""
        made = [scratches.create(f"k{n}") for n in range(3)]
        again: ScratchManager = opened(plugin, config)
        try:
            assert sorted(s.kernel_id for s in again.list()) == ["k0", "k1", "k2"]
            assert sorted(again.list(), key=lambda s: s.kernel_id) == made
            again.destroy("k1")
        finally:
            again.close()
        assert sorted(s.kernel_id for s in scratches.list()) == ["k0", "k2"]

    def test_agents_that_share_a_root_list_their_own_and_say_whose_it_is(
        self, plugin: type[ScratchManager], config: Mapping[str, Any]
    ) -> None:
        """What another agent has marked is not listed, and nothing unmarked passes for ours."""
        one, two = (opened(plugin, {**config, "owner": owner}) for owner in ("one", "two"))
        try:
            assert one.create("k1").owner == "one"
            two.create("k2")
            assert [(s.kernel_id, s.owner) for s in one.list()] == [("k1", "one")]
            two.destroy("k1")
            assert [s.kernel_id for s in one.list()] == ["k1"]
        finally:
            one.destroy("k1")
            two.destroy("k2")
            one.close()
            two.close()

    def test_usage_grows_with_what_is_written(self, scratches: ScratchManager) -> None:
        """A megabyte written is about a megabyte used."""
        _needs_a_directory(scratches)
        path = Path(scratches.create("k1").path)
        before = scratches.usage("k1")
        with (path / "work" / "data").open("wb") as file:
            file.write(os.urandom(_MIB))
            os.fsync(file.fileno())
        after = scratches.usage("k1")
        assert _MIB <= after.used - before.used < 2 * _MIB
        self.check_plain(ScratchUsage, after)

    def test_usage_of_nothing_is_not_found(self, scratches: ScratchManager) -> None:
        """A scratch that does not exist has no usage, not a usage of zero."""
        with pytest.raises(NotFound):
            scratches.usage("never-was")

    def test_a_size_is_kept_or_refused(self, scratches: ScratchManager) -> None:
        """Where sizes cannot be limited, asking for one is refused and leaves nothing."""
        if scratches.info.supports("size-limit") is Support.YES:
            assert scratches.create("k1", 64 * _MIB).size_limit == 64 * _MIB
            assert scratches.grow("k1", 128 * _MIB).size_limit == 128 * _MIB
            return
        with pytest.raises(Unsupported):
            scratches.create("k1", 64 * _MIB)
        assert list(scratches.list()) == []
        scratches.create("k1")
        with pytest.raises(Unsupported):
            scratches.grow("k1", 64 * _MIB)

    @pytest.mark.parametrize("kernel_id", HOSTILE_IDS)
    def test_an_id_that_is_no_name_is_refused(
        self, scratches: ScratchManager, kernel_id: str
    ) -> None:
        """Nothing is made or removed outside."""
        for call in (scratches.create, scratches.destroy, scratches.usage):
            with pytest.raises(AgentError):
                call(kernel_id)
        assert list(scratches.list()) == []

    def test_links_are_removed_and_never_followed(
        self, scratches: ScratchManager, tmp_path: Path
    ) -> None:
        """What the user's links point at is not the user's to destroy, nor to be counted."""
        _needs_a_directory(scratches)
        outside = tmp_path / "outside"
        outside.mkdir()
        (outside / "precious").write_bytes(os.urandom(_MIB))
        work = Path(scratches.create("k1").path) / "work"
        (work / "to-a-directory").symlink_to(outside)
        (work / "to-a-file").symlink_to(outside / "precious")
        (work / "to-nothing").symlink_to("/no/such/thing")
        (work / "to-itself").symlink_to("to-itself")
        assert scratches.usage("k1").used < _MIB
        scratches.destroy("k1")
        assert (outside / "precious").stat().st_size == _MIB
        assert not work.exists()

    def test_whatever_a_user_leaves_is_removed(self, scratches: ScratchManager) -> None:
        """Locked directories, odd names, pipes and trees deeper than any path may be."""
        _needs_a_directory(scratches)
        work = Path(scratches.create("k1").path) / "work"
        (work / "locked" / "inner").mkdir(parents=True)
        (work / "locked" / "inner" / "file").write_text("x")
        (work / "locked" / "inner").chmod(0)
        (work / "locked").chmod(0)
        for name in (b"new\nline", b"\xff\xfe", b"-rf", b"*", b" ", b"..."):
            (work / os.fsdecode(name)).write_text("x")
        os.mkfifo(work / "pipe")
        _dig(work, 1500)
        assert scratches.usage("k1").used >= 0
        scratches.destroy("k1")
        assert not work.exists()
        assert list(scratches.list()) == []


def _needs_a_directory(scratches: ScratchManager) -> None:
    if scratches.info.supports("directory") is Support.NO:
        pytest.skip("its scratches are simulated: no directory is made")


def _dig(directory: Path, depth: int) -> None:
    """Make a tree that is too deep to be named by one path."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    for _ in range(depth):
        os.mkdir("d" * 20, dir_fd=fd)
        child = os.open("d" * 20, os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd)
        os.close(fd)
        fd = child
    os.close(fd)
