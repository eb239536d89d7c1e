from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from agent_core.config.pidfile import pid_file
from agent_core.contracts.errors import InvalidConfig


def test_the_file_holds_the_pid_as_long_as_it_is_held(tmp_path: Path) -> None:
    path = tmp_path / "run/agent.pid"
    with pid_file(path):
        assert path.read_text() == f"{os.getpid()}\n"
        assert [p.name for p in path.parent.iterdir()] == ["agent.pid"]
    assert not path.exists()


def test_the_file_of_another_agent_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "agent.pid"
    with pid_file(path):
        path.write_text("1\n")
    assert path.read_text() == "1\n"


def test_a_device_is_not_replaced_and_no_path_is_no_file() -> None:
    with pid_file(Path(os.devnull)), pid_file(None):
        assert Path(os.devnull).is_char_device()
    assert Path(os.devnull).is_char_device()


def test_a_file_that_cannot_be_written_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidConfig, match="pid file"), pid_file(tmp_path / "file/agent.pid"):
        raise AssertionError("never entered")


def test_the_file_of_an_agent_that_runs_is_refused_and_a_stale_one_is_replaced(
    tmp_path: Path,
) -> None:
    path = tmp_path / "agent.pid"
    stand_in = "import sys; print(flush=True); sys.stdin.read()"
    other = subprocess.Popen(
        [sys.executable, "-c", stand_in, "agentctl", "serve"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert other.stdout is not None
    other.stdout.readline()  # it runs
    try:
        path.write_text(f"{other.pid}\n")
        with pytest.raises(InvalidConfig, match=str(other.pid)), pid_file(path):
            raise AssertionError("never entered")
        assert path.read_text() == f"{other.pid}\n"
    finally:
        other.communicate()
    for stale in (f"{other.pid}\n", "1\n", "no number", ""):
        path.write_text(stale)
        with pid_file(path):
            assert path.read_text() == f"{os.getpid()}\n"
