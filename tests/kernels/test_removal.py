"""Directories that code has made hard to remove are removed, and nothing beside them."""

import os
from pathlib import Path

import pytest

from agent_core.kernels.steps.removal import remove_tree


@pytest.fixture
def place(tmp_path):
    """Where something is to be removed, beside something that must stay."""
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "file").write_text("kept")
    yield tmp_path / "gone"
    assert (tmp_path / "kept" / "file").read_text() == "kept"
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_what_is_not_there_is_removed(place):
    remove_tree(place)
    remove_tree(place / "below" / "it")
    assert not place.exists()


@pytest.mark.parametrize("target", ["kept", "nowhere"])
def test_a_link_in_the_place_of_the_directory_is_removed_alone(place, target):
    place.symlink_to(place.parent / target)
    remove_tree(place)


def test_links_in_it_are_removed_alone(place):
    (place / "a").mkdir(parents=True)
    (place / "a" / "link").symlink_to(place.parent / "kept")
    (place / "link").symlink_to(place.parent / "kept" / "file")
    remove_tree(place)


def test_a_file_in_the_place_of_the_directory_is_removed(place):
    place.write_text("a file")
    remove_tree(place)


def test_locked_directories_deeper_than_a_path_can_be_are_removed(place):
    place.mkdir()
    here = os.open(".", os.O_RDONLY)
    try:
        os.chdir(place)
        for _ in range(2000):
            Path("deeper").mkdir()
            os.chdir("deeper")
        for _ in range(2000):
            os.chdir("..")
            Path("deeper").chmod(0)
    finally:
        os.chdir(here)
        os.close(here)
    place.chmod(0)
    remove_tree(place)
