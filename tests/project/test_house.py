"""The house rules that no other tool checks: who imports whom, ranges, sizes, typing markers."""

import ast
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MEMBERS = sorted([*(ROOT / "plugins").iterdir(), *(ROOT / "backends").iterdir()])
MEMBERS = [path for path in MEMBERS if (path / "pyproject.toml").exists()]
PACKAGES = {path.name.replace("-", "_"): path for path in MEMBERS}
OPEN_TO_PLUGINS = ("agent_core.contracts", "agent_core.hookspecs", "agent_core.testing")
WALL = 500


def project(path):
    return tomllib.loads((path / "pyproject.toml").read_text())


def sources():
    packages = [ROOT / "agent_core", *(member / "src" for member in MEMBERS)]
    return [file for package in packages for file in sorted(package.rglob("*.py"))]


def imports(file):
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module


def test_there_are_members():
    assert {"agent_backend_process", "agent_kernel_runner", "accel_mock", "scratch_hostdir"} <= set(
        PACKAGES
    )


@pytest.mark.parametrize("package", PACKAGES)
def test_a_member_imports_no_other_and_only_what_the_core_opens_to_it(package):
    own = PACKAGES[package] / "src"
    for file in own.rglob("*.py"):
        for name in imports(file):
            top = name.split(".")[0]
            assert top == package or top not in PACKAGES, f"{file}: {name}"
            if top == "agent_core":
                allowed = any(name == o or name.startswith(o + ".") for o in OPEN_TO_PLUGINS)
                assert allowed, f"{file}: {name}"


@pytest.mark.parametrize("package", PACKAGES)
def test_a_member_bounds_the_core_and_has_its_version_and_marker(package):
    data = project(PACKAGES[package])["project"]
    core = project(ROOT)["project"]["version"]
    major, minor, _ = (int(part) for part in core.split("."))
    assert f"agent-core>={major}.{minor},<{major}.{minor + 1}" in data["dependencies"]
    assert re.fullmatch(r"\d+\.\d+\.\d+", data["version"])
    assert data["requires-python"] == ">=3.11"
    assert (PACKAGES[package] / "src" / package / "py.typed").exists()
    assert (PACKAGES[package] / "README.md").exists()


@pytest.mark.parametrize("package", PACKAGES)
def test_a_member_bounds_the_members_that_it_needs(package):
    own = project(PACKAGES[package])["project"]["dependencies"]
    for name, member in ((path.name, path) for path in MEMBERS):
        version = project(member)["project"]["version"]
        major, minor, _ = (int(part) for part in version.split("."))
        needed = [each for each in own if re.split(r"[<>=!~ \[;]", each)[0] == name]
        assert needed in ([], [f"{name}>={major}.{minor},<{major}.{minor + 1}"])


def test_the_docker_backend_brings_all_that_a_kernel_in_a_container_needs():
    text = " ".join(project(PACKAGES["agent_backend_docker"])["project"]["dependencies"])
    assert "agent-kernel-runner" in text
    assert "scratch-hostdir" in text


def test_the_core_has_its_version_once():
    text = (ROOT / "agent_core/__init__.py").read_text()
    assert f'__version__ = "{project(ROOT)["project"]["version"]}"' in text
    assert (ROOT / "agent_core/py.typed").exists()


def test_no_module_is_beyond_the_wall():
    long = {str(f): n for f in sources() if (n := len(f.read_text().splitlines())) > WALL}
    assert long == {}


def test_no_module_has_a_name_that_says_nothing():
    vague = {"utils", "helpers", "common", "misc", "util", "helper"}
    assert [str(file) for file in sources() if file.stem in vague] == []


def test_every_dependency_is_a_range_and_pinned_in_the_constraints():
    pinned = (ROOT / "constraints.txt").read_text()
    assert "://" not in pinned
    names = {line.split("==")[0].lower() for line in pinned.splitlines() if "==" in line}
    for path in [ROOT, *MEMBERS]:
        for requirement in project(path)["project"]["dependencies"]:
            name = re.split(r"[<>=!~ \[;]", requirement)[0].lower()
            if name not in {member.name for member in MEMBERS} | {"agent-core"}:
                assert "<" in requirement, requirement
                assert ">=" in requirement, requirement
                assert name.replace("_", "-") in {n.replace("_", "-") for n in names}, requirement
