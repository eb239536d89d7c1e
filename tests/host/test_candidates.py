"""What the scan finds, what it refuses to be misled by, and what it never imports."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import importlib_metadata
import pytest

from agent_core.host.candidates import Candidate, scan, survey
from agent_core.testing.distributions import fake_distribution

DEVICE = "agent_core.device.v1"


def found(path: Path) -> list[tuple[str, str, int, str, str]]:
    return [(c.kind, c.name, c.contract, c.dist, c.version) for c in scan([str(path)])]


def test_every_kind_is_found_with_all_that_metadata_says(tmp_path):
    fake_distribution(
        tmp_path,
        "Accel_Acme",
        "1.4",
        {DEVICE: {"acme": "accel_acme.plugin"}, "console_scripts": {"acme": "accel_acme:main"}},
        requires=["pluggy>=1", "Agent.Core[testing] (>=0.1,<0.2) ; python_version > '3'"],
        summary="ACME accelerators",
    )
    assert scan([str(tmp_path)]) == (
        Candidate(
            kind="device",
            name="acme",
            contract=1,
            value="accel_acme.plugin",
            dist="Accel_Acme",
            version="1.4",
            location=str(tmp_path / "Accel_Acme-1.4.dist-info"),
            requires_core=">=0.1,<0.2",
            summary="ACME accelerators",
        ),
    )


def test_candidates_are_sorted_whatever_the_order_on_disk(tmp_path):
    for name in ("zeta", "alpha", "mid"):
        fake_distribution(tmp_path, f"accel-{name}", "1", {DEVICE: {name: f"{name}.plugin"}})
    fake_distribution(tmp_path, "b", "1", {"agent_core.backend.v1": {"b": "b.plugin"}})
    assert [c.name for c in scan([str(tmp_path)])] == ["b", "alpha", "mid", "zeta"]


def test_a_distribution_without_our_groups_is_nothing_to_us(tmp_path):
    fake_distribution(tmp_path, "other", "1", {"other.group": {"agent_core.device.v1": "x"}})
    fake_distribution(tmp_path, "plain", "1")
    assert survey([str(tmp_path)]) == ((), ())


def test_an_empty_leftover_never_hides_the_real_plugin(tmp_path):
    for leftover in ("0.1", "0.9", "1.0", "1.5", "9.9"):
        (tmp_path / f"accel_acme-{leftover}.dist-info").mkdir()
    fake_distribution(tmp_path, "accel-acme", "1.4", {DEVICE: {"acme": "accel_acme.plugin"}})
    assert found(tmp_path) == [("device", "acme", 1, "accel-acme", "1.4")]


def test_the_newest_of_two_versions_in_one_directory_counts_and_the_other_is_reported(tmp_path):
    for version in ("1.9", "1.10"):
        fake_distribution(tmp_path, "accel-acme", version, {DEVICE: {"acme": "acme.plugin"}})
    result = survey([str(tmp_path)])
    assert [c.version for c in result.candidates] == ["1.10"]
    assert "1.9 is shadowed" in result.problems[0].reason
    assert "pip install" in result.problems[0].hint


def test_the_first_directory_of_the_path_counts_as_it_does_for_imports(tmp_path):
    near, far = tmp_path / "near", tmp_path / "far"
    fake_distribution(near, "accel-acme", "1.0", {DEVICE: {"acme": "acme.plugin"}})
    fake_distribution(far, "accel-acme", "2.0", {DEVICE: {"acme": "acme.plugin"}})
    result = survey([str(near), str(far)])
    assert [c.version for c in result.candidates] == ["1.0"]
    assert result.problems[0].location.startswith(str(far))


def test_half_removed_metadata_loses_against_whole_and_is_reported_alone(tmp_path):
    half = fake_distribution(tmp_path, "accel-acme", "2.0", {DEVICE: {"acme": "acme.plugin"}})
    (half / "METADATA").unlink()
    result = survey([str(tmp_path)])
    assert [(c.dist, c.version) for c in result.candidates] == [("accel_acme", "2.0")]
    assert "interrupted uninstall" in result.problems[0].reason

    fake_distribution(tmp_path, "accel-acme", "1.0", {DEVICE: {"acme": "acme.plugin"}})
    assert [c.version for c in scan([str(tmp_path)])] == ["1.0"]


def test_one_directory_named_twice_or_through_a_link_is_read_once(tmp_path):
    site = tmp_path / "site"
    fake_distribution(site, "accel-acme", "1", {DEVICE: {"acme": "acme.plugin"}})
    (tmp_path / "lib64").symlink_to(site)
    result = survey([str(site), str(tmp_path / "lib64"), str(site)])
    assert len(result.candidates) == 1
    assert result.problems == ()


def test_unreadable_metadata_is_reported_and_the_others_are_found(tmp_path):
    broken = fake_distribution(tmp_path, "broken", "1", {DEVICE: {"broken": "broken.plugin"}})
    (broken / "entry_points.txt").write_bytes(b"[agent_core.device.v1]\nbr\xff = x\n")
    looped = fake_distribution(tmp_path, "looped", "1")
    (looped / "entry_points.txt").symlink_to("entry_points.txt")
    fake_distribution(tmp_path, "whole", "1", {DEVICE: {"whole": "whole.plugin"}})
    result = survey([str(tmp_path)])
    assert [c.name for c in result.candidates] == ["whole"]
    assert {Path(p.location).name for p in result.problems} == {
        "broken-1.dist-info",
        "looped-1.dist-info",
    }
    assert all("cannot be read" in problem.reason for problem in result.problems)


def test_a_broken_archive_on_the_path_is_reported(tmp_path):
    archive = tmp_path / "broken.zip"
    archive.write_bytes(b"PK\x03\x04 no archive at all")
    fake_distribution(tmp_path / "site", "whole", "1", {DEVICE: {"whole": "whole.plugin"}})
    result = survey([str(archive), str(tmp_path / "missing"), str(tmp_path / "site")])
    assert [c.name for c in result.candidates] == ["whole"]


@pytest.mark.parametrize("group", ["agent_core.device", "agent_core.device.1", "agent_core.v1"])
def test_a_group_that_names_no_contract_is_reported_and_never_ignored(tmp_path, group):
    fake_distribution(tmp_path, "acme", "1", {group: {"acme": "acme.plugin"}})
    result = survey([str(tmp_path)])
    assert result.candidates == ()
    assert repr(group) in result.problems[0].reason


def test_development_installs_and_archives_are_read_by_importlib_metadata(tmp_path):
    egg_info = tmp_path / "src" / "accel_egg.egg-info"
    egg_info.mkdir(parents=True)
    (egg_info / "PKG-INFO").write_text("Metadata-Version: 2.1\nName: accel-egg\nVersion: 3.1\n")
    (egg_info / "requires.txt").write_text("agent-core>=0.1\n\n[test]\nagent-core<0.1\n")
    (egg_info / "entry_points.txt").write_text(f"[{DEVICE}]\negg = accel_egg.plugin\n")
    plain = tmp_path / "src" / "plain.egg-info"
    plain.mkdir()
    archive = tmp_path / "packed.zip"
    packed = fake_distribution(
        tmp_path / "packed", "accel-zip", "2", {DEVICE: {"zip": "accel_zip.plugin"}}
    )
    with zipfile.ZipFile(archive, "w") as writer:
        for file in packed.iterdir():
            writer.write(file, f"{packed.name}/{file.name}")
    candidates = scan([str(tmp_path / "src"), str(archive)])
    assert [(c.name, c.dist, c.version, c.requires_core) for c in candidates] == [
        ("egg", "accel-egg", "3.1", ">=0.1"),
        ("zip", "accel-zip", "2", ""),
    ]


def test_finders_of_others_are_asked(tmp_path, monkeypatch):
    path = fake_distribution(tmp_path, "accel-far", "1", {DEVICE: {"far": "accel_far.plugin"}})

    class Finder:
        @staticmethod
        def find_distributions(context):
            return [importlib_metadata.Distribution.at(path)]

    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, Finder()])
    assert "far" in [c.name for c in scan()]


def test_the_interpreters_own_path_has_the_plugins_of_agent_core_itself():
    ours = [c for c in scan() if c.dist == "agent-core"]
    assert [(c.kind, c.name, c.contract) for c in ours] == [
        ("device", "cpu", 1),
        ("device", "mem", 1),
    ]


def test_a_listing_imports_no_plugin_and_nothing_heavy(tmp_path):
    fake_distribution(
        tmp_path,
        "accel-acme",
        "1",
        {DEVICE: {"acme": "accel_acme.plugin"}},
        {"accel_acme/__init__.py": "raise SystemExit('imported')", "accel_acme/plugin.py": ""},
    )
    script = f"""
import sys
sys.path.insert(0, {str(tmp_path)!r})
before = set(sys.modules)
from agent_core.config.selection import Selection
from agent_core.host.candidates import scan
from agent_core.host.policy import decide
from agent_core.host.report import records_of
from agent_core.host.why import explain
rows = [record.row() for record in records_of(decide(scan(), Selection()))]
assert any(row["name"] == "acme" and row["state"] == "found" for row in rows), rows
heavy = {{"accel_acme", "pluggy", "asyncio", "pydantic", "email", "importlib_metadata", "pathlib",
         "importlib.metadata", "logging", "agent_core.contracts.device"}}
assert not heavy & (set(sys.modules) - before), heavy & set(sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-I", "-c", script], capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 0, done.stderr
