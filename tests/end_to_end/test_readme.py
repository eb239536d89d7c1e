"""The README's commands do what it says: the demo ends well, and what is typed by hand works."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def commands():
    blocks = re.findall(r"```console\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    return [line[2:] for block in blocks for line in block.splitlines() if line.startswith("$ ")]


def test_the_set_up_is_two_commands_that_are_sessions():
    set_up = [c for c in commands() if c.startswith("python3 noxfile.py")]
    assert set_up == ["python3 noxfile.py demo", "python3 noxfile.py tests"]
    sessions = re.findall(r"@nox\.session\ndef (\w+)", (ROOT / "noxfile.py").read_text())
    assert {"demo", "tests", "lint", "types", "docs", "wheels", "bench"} <= set(sessions)
    assert "python3 noxfile.py tests" in (ROOT / ".ci/run").read_text()


def test_what_is_typed_by_hand_works(node):
    node.start()
    typed = [shlex.split(c)[1:] for c in commands() if c.startswith("agentctl")]
    typed.remove(["serve"])
    assert len(typed) >= 9
    said = {tuple(arguments): node.agentctl(*arguments) for arguments in typed}
    assert said["exec", "hello", "-c", "print(6 * 7)"] == "42\n"
    node.clean()


def test_the_demo_ends_by_itself_and_leaves_nothing(tmp_path):
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples/demo.py")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=55,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "pi to 5 digits: 3.14159" in done.stdout
    assert "Hello Ada, 42 is the answer." in done.stdout
    assert "ZeroDivisionError" in done.stderr
    assert "How long each step took" in done.stdout
    assert "What to type next" in done.stdout


@pytest.mark.requires("docker")
def test_the_demo_on_docker_runs_in_an_image_of_nothing_and_removes_it(engine, tmp_path):
    demo = [sys.executable, str(ROOT / "examples/demo.py"), "--backend", "docker"]
    done = engine.run_inside(*demo, "--host", f"unix://{engine.socket}", cwd=tmp_path)
    said = (done.stdout + done.stderr).decode()
    assert done.returncode == 0, said
    assert "Hello Ada, 42 is the answer." in said
    assert "nothing is held by nobody" in said
    assert "agent-core-demo" not in engine.docker("images")
    assert [name for name in engine.names() if name.startswith("demo.")] == []


def test_the_demo_on_docker_says_where_it_looked_for_an_engine(tmp_path):
    demo = [sys.executable, str(ROOT / "examples/demo.py"), "--backend", "docker"]
    done = subprocess.run(
        [*demo, "--host", str(tmp_path / "none.sock")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "There is no Docker engine at" in done.stderr
