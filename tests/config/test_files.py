from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent_core.config.loader import load
from agent_core.config.sources import FILE_LIMIT, find_file, search_order
from agent_core.contracts.errors import InvalidConfig


def fault_of(path: Path) -> dict[str, object]:
    with pytest.raises(InvalidConfig) as caught:
        load(path, environ={})
    (fault,) = caught.value.details["faults"]
    return fault


def test_the_named_file_goes_before_the_variable_and_that_before_the_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    home = tmp_path / "home"
    user = home / ".config/backend.ai/agent.toml"
    user.parent.mkdir(parents=True)
    user.write_text("")
    environ = {"HOME": str(home), "AGENT_CONFIG_FILE": "elsewhere.toml"}
    assert find_file(Path("named.toml"), environ) == Path("named.toml")
    assert find_file(None, environ) == Path("elsewhere.toml")
    environ["BACKEND_CONFIG_FILE"] = "older.toml"
    assert find_file(None, environ) == Path("elsewhere.toml")
    del environ["AGENT_CONFIG_FILE"]
    assert find_file(None, environ) == Path("older.toml")
    del environ["BACKEND_CONFIG_FILE"]
    assert find_file(None, environ) == user
    (tmp_path / "agent.toml").write_text("")
    assert find_file(None, environ) == Path("agent.toml")


def test_the_places_are_searched_in_the_documented_order() -> None:
    assert [str(place) for place in search_order({"HOME": "/h"})] == [
        "agent.toml",
        "/h/.config/backend.ai/agent.toml",
        "/h/.config/agent-core/agent.toml",
        "/etc/backend.ai/agent.toml",
    ]
    assert len(list(search_order({}))) == 2


def test_a_named_file_that_does_not_exist_is_a_fault(tmp_path: Path) -> None:
    assert fault_of(tmp_path / "absent.toml")["what"] == "does not exist"


def test_a_directory_is_a_fault_that_names_the_file_in_it(tmp_path: Path) -> None:
    fault = fault_of(tmp_path)
    assert fault["what"] == "is a directory"
    assert str(tmp_path / "agent.toml") in str(fault["hint"])


def test_a_pipe_is_refused_without_waiting_for_its_writer(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    assert fault_of(pipe)["what"] == "is not a regular file"


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_an_unreadable_file_is_a_fault(tmp_path: Path) -> None:
    path = tmp_path / "agent.toml"
    path.write_text("")
    path.chmod(0)
    assert "cannot be read" in str(fault_of(path)["what"])


def test_bytes_that_are_not_utf_8_are_a_fault_with_the_line(tmp_path: Path) -> None:
    path = tmp_path / "agent.toml"
    path.write_bytes(b'[agent]\nid = "\xff"\n')
    fault = fault_of(path)
    assert (fault["line"], fault["what"]) == (2, "is not UTF-8")


def test_a_huge_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "agent.toml"
    path.write_bytes(b"#" * (FILE_LIMIT + 1))
    assert "larger" in str(fault_of(path)["what"])


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[agent]\nid = \n", 2),
        ("[agent]\n\nid 5\n", 3),
        ("[agent]\n[agent]\n", 2),
        ("[agent]\nx = 1\nx = 2\n", 3),
        ("x = [1,\n", 2),
    ],
)
def test_broken_toml_is_a_fault_with_the_line(tmp_path: Path, text: str, line: int) -> None:
    path = tmp_path / "agent.toml"
    path.write_text(text)
    fault = fault_of(path)
    assert fault["line"] == line
    assert str(fault["what"]).startswith("is not TOML")


def test_a_file_nested_beyond_reason_is_a_fault(tmp_path: Path) -> None:
    path = tmp_path / "agent.toml"
    path.write_text("x = " + "[" * 100_000)
    assert fault_of(path)["what"] == "is nested too deeply"


def test_windows_line_ends_are_read(tmp_path: Path) -> None:
    path = tmp_path / "agent.toml"
    path.write_bytes(b'[agent]\r\nid = "a"\r\n')
    assert load(path, environ={}).config.agent.id == "a"
