"""What the tutorials and the recipes say is what happens."""

from pathlib import Path

import pytest
from servers.engine import BUSYBOX

DOCS = Path(__file__).resolve().parents[2] / "docs"
TUTORIALS = [p for folder in ("tutorial", "how-to") for p in sorted((DOCS / folder).glob("*.md"))]
DOCKER = DOCS / "how-to/docker.md"
PAGES = [*(page for page in TUTORIALS if page != DOCKER), DOCS / "reference/state-directory.md"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_can_be_followed_to_the_letter(page, reader):
    played = reader.play(page)
    assert played or page.stem == "index"


@pytest.mark.requires("docker", "registry")
@pytest.mark.timeout(180)
def test_the_page_about_docker_can_be_followed_to_the_letter(reader, engine, registry):
    shelf = registry(private=True)
    shelf.fill("team/base:1", BUSYBOX)
    reader.move_to(engine, {"5000": str(shelf.port)})
    assert reader.play(DOCKER)
    assert engine.names() == []


@pytest.mark.parametrize(
    ("shown", "printed", "alike"),
    [
        ("a b", "a   b\n", True),
        ("a\nb", "a b", True),
        ("a ... c", "a c", True),
        ("a ... c", "a b b c", True),
        ("pid ...", "pid 7", True),
        ("at /...", "at /tmp/x", True),
        ("a", "a b", False),
        ("", "a", False),
        ("a ... c", "a b", False),
    ],
)
def test_dots_stand_for_any_words_and_nothing_else_does(shown, printed, alike, words):
    assert words(shown, printed) is alike


def test_a_skipped_block_must_say_why(tmp_path, reader):
    page = tmp_path / "page.md"
    page.write_text("<!-- test: skip -->\n```console\n$ false\n```\n")
    with pytest.raises(AssertionError, match="needs a reason"):
        reader.play(page)


def test_a_command_that_fails_fails_the_page(tmp_path, reader):
    page = tmp_path / "page.md"
    page.write_text("text\n\n```console\n$ exit 3\n```\n")
    with pytest.raises(AssertionError, match="exit code 3"):
        reader.play(page)
