"""A file of the config directory is whole or as it was, whatever code in the kernel left there."""

import os
import stat

import pytest

from agent_core import failpoints
from agent_core.contracts.errors import InternalError
from agent_core.kernels.files.folder import PRIVATE, File, put_files


def mode_of(path):
    return stat.S_IMODE(path.stat().st_mode)


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def test_files_have_their_content_and_mode_whatever_the_umask_is(tmp_path):
    before = os.umask(0o077)
    try:
        put_files(tmp_path, [File("a.txt", b"1"), File("ssh/key", b"2", PRIVATE)])
    finally:
        os.umask(before)
    assert (tmp_path / "a.txt").read_bytes() == b"1"
    assert (tmp_path / "ssh/key").read_bytes() == b"2"
    assert (mode_of(tmp_path / "a.txt"), mode_of(tmp_path / "ssh/key")) == (0o644, 0o600)


def test_writing_again_replaces_and_leaves_nothing_beside(tmp_path):
    for content in (b"old and long", b"new"):
        put_files(tmp_path, [File("a.txt", content)])
    assert (tmp_path / "a.txt").read_bytes() == b"new"
    assert names_in(tmp_path) == ["a.txt"]


def test_what_fails_before_its_place_is_taken_leaves_the_old_file_whole(tmp_path, monkeypatch):
    put_files(tmp_path, [File("a", b"old"), File("b", b"old")])
    armed = failpoints._Arming("effect.config-file.before=raise@2", None)
    monkeypatch.setattr(failpoints, "_arming", armed)
    with pytest.raises(InternalError):
        put_files(tmp_path, [File("a", b"new"), File("b", b"new")])
    assert (tmp_path / "a").read_bytes() == b"new"
    assert (tmp_path / "b").read_bytes() == b"old"
    put_files(tmp_path, [File("a", b"new"), File("b", b"new")])
    assert names_in(tmp_path) == ["a", "b"]


@pytest.mark.parametrize("name", ["a", ".a.new"])
def test_a_link_in_the_place_of_a_file_is_replaced_and_not_followed(tmp_path, name):
    outside = tmp_path / "outside"
    outside.write_text("mine")
    folder = tmp_path / "config"
    folder.mkdir()
    (folder / name).symlink_to(outside)
    put_files(folder, [File("a", b"new")])
    assert outside.read_text() == "mine"
    assert not (folder / "a").is_symlink()


@pytest.mark.parametrize("where", ["config", "config/ssh"])
def test_a_link_in_the_place_of_a_directory_is_refused(tmp_path, where):
    (tmp_path / "outside").mkdir()
    if where != "config":
        (tmp_path / "config").mkdir()
    (tmp_path / where).symlink_to(tmp_path / "outside")
    with pytest.raises(OSError):
        put_files(tmp_path / "config", [File("ssh/a", b"new")])
    assert names_in(tmp_path / "outside") == []
