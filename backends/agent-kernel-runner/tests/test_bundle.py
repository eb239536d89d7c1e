"""The bundle: whole or not there, made once, and started past every variable of its loader."""

from __future__ import annotations

import platform
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from agent_kernel_runner.bundle import building, launcher, manifest
from agent_kernel_runner.bundle.elf import UnfitProgram, loader_of
from agent_kernel_runner.bundle.places import python_of

BUILD = """import sys
from pathlib import Path
from agent_kernel_runner.bundle.building import ensure
ensure(Path(sys.argv[1]))
"""
ASSEMBLERS = {
    "x86_64": (["as", "--64"], "objcopy", ".intel_syntax noprefix\n" + launcher.X86_64),
    "aarch64": (["aarch64-linux-gnu-as"], "aarch64-linux-gnu-objcopy", launcher.AARCH64),
}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return building.ensure(tmp_path_factory.mktemp("bundles"))


def build(directory: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", BUILD, str(directory)])


def making(directory: Path) -> list[Path]:
    return [*directory.glob(".making-*")]


# ---- making it ---------------------------------------------------------------------------------


def test_a_bundle_is_whole_and_what_is_whole_is_not_made_again(bundle):
    assert manifest.faults(bundle, thorough=True) == []
    before = (bundle / manifest.NAME).stat()
    assert building.ensure(bundle.parent) == bundle
    assert (bundle / manifest.NAME).stat() == before
    assert making(bundle.parent) == []


@pytest.mark.timeout(120)
def test_a_builder_that_is_killed_leaves_nothing_that_passes_for_a_bundle(tmp_path):
    builder = build(tmp_path)
    deadline = time.monotonic() + 30
    while not any((each / "lib").exists() for each in making(tmp_path)):
        assert time.monotonic() < deadline
        time.sleep(0.005)  # a builder tells nobody how far it is
    builder.send_signal(signal.SIGKILL)
    builder.wait(10)
    assert manifest.faults(tmp_path / building.name(), thorough=False)
    assert len(making(tmp_path)) == 1
    made = building.ensure(tmp_path)
    assert manifest.faults(made, thorough=True) == []
    assert making(tmp_path) == []


@pytest.mark.timeout(120)
def test_of_two_builders_at_once_one_makes_it_for_both(tmp_path):
    found: list[Path] = []
    threads = [
        threading.Thread(target=lambda: found.append(building.ensure(tmp_path))) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [tmp_path / building.name()] * 2
    assert manifest.faults(found[0], thorough=True) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([".lock", found[0].name])


@pytest.mark.timeout(120)
def test_what_is_damaged_is_set_aside_and_made_again(bundle, tmp_path):
    copy = shutil.copytree(bundle, tmp_path / bundle.name, symlinks=True)
    (copy / manifest.NAME).write_text((copy / manifest.NAME).read_text()[:-100])
    (fault,) = manifest.faults(copy, thorough=False)
    assert fault.startswith("manifest.json")
    assert building.ensure(tmp_path) == copy
    assert manifest.faults(copy, thorough=True) == []
    assert len([*tmp_path.glob(".damaged-*")]) == 1


@pytest.mark.timeout(120)
def test_of_all_bundles_only_that_of_this_installation_is_kept(bundle, tmp_path):
    kept = shutil.copytree(bundle, tmp_path / bundle.name, symlinks=True)
    for name in ("0123456789abcdef", ".damaged-x", ".making-y"):
        (tmp_path / name / "lib").mkdir(parents=True)
    building.forget_others(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([".lock", kept.name])
    assert manifest.faults(kept, thorough=True) == []


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"format": 99}', '{"format": 1, "files": 3}'])
def test_a_manifest_that_is_none_is_a_fault(tmp_path, content):
    (tmp_path / manifest.NAME).write_text(content)
    (fault,) = manifest.faults(tmp_path, thorough=False)
    assert fault.startswith("manifest.json")


def test_a_program_without_a_loader_is_told_to_be_unfit(tmp_path):
    script = tmp_path / "script"
    script.write_text("#!/bin/sh\n")
    with pytest.raises(UnfitProgram, match="no 64-bit ELF"):
        loader_of(script)
    start = tmp_path / "start"
    start.write_bytes(launcher.launcher("x86_64"))
    with pytest.raises(UnfitProgram, match="linked statically"):
        loader_of(start)


# ---- starting it -------------------------------------------------------------------------------


@pytest.mark.parametrize("machine", sorted(ASSEMBLERS))
def test_the_launcher_is_what_its_instructions_are_assembled_to(tmp_path, machine):
    assembler, copier, text = ASSEMBLERS[machine]
    if not shutil.which(assembler[0]):
        pytest.skip(f"there is no {assembler[0]}")
    source, made, code = (tmp_path / name for name in ("a.s", "a.o", "a.bin"))
    source.write_text(text)
    subprocess.run([*assembler, "-o", made, source], check=True)
    subprocess.run([copier, "-O", "binary", "-j", ".text", made, code], check=True)
    assert code.read_bytes() == launcher.CODE[machine]


def test_there_is_a_launcher_for_each_machine_that_it_is_started_on():
    assert launcher.launcher("riscv64") is None
    assert launcher.launcher("x86_64") != launcher.launcher("aarch64")


def test_the_interpreter_of_a_bundle_obeys_no_variable(bundle):
    if launcher.launcher(platform.machine()) is None:
        pytest.skip("there is no launcher for this machine")
    env = {
        "LD_PRELOAD": "/nowhere.so",
        "LD_TRACE_LOADED_OBJECTS": "1",
        "LD_LIBRARY_PATH": "/nowhere",
        "PYTHONHOME": "/nowhere",
        "A": "b",
        "LC_ALL": "C.UTF-8",
    }
    script = "import os, ssl, sqlite3, sys; print(sys.prefix); print(sorted(os.environ.items()))"
    done = subprocess.run(
        [*python_of(str(bundle)), "-I", "-S", "-c", script],
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    prefix, seen = done.stdout.splitlines()
    assert prefix == str(bundle)
    assert seen == str(sorted((name.replace("LD_", "\x01D_"), v) for name, v in env.items()))
