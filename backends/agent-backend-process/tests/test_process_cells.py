"""Every cell of the table of edits, as the processes of a real container see it."""

# A test shares its loop with nobody, so that it may look at files directly.

from __future__ import annotations

import os

import pytest
from agent_backend_process.declaration import EDITS
from cells import Case, outcome_of, printed

from agent_core.contracts.edits import (
    EDIT_FIELDS,
    ConfigFile,
    ContainerEdits,
    Cpuset,
    DeviceNode,
    DeviceRequest,
    Hook,
    Mount,
)
from agent_core.testing.backend_bench import at_work

CORES = sorted(os.sched_getaffinity(0))
MEBIBYTES = 8
OUTSIDER = "12345"


CASES = {
    "env": Case(lambda _: {"ACME": "1"}, 'echo "${ACME}"', "1"),
    "path_env": Case(
        lambda _: {"LD_LIBRARY_PATH": ("/a", "/b")}, 'echo "$LD_LIBRARY_PATH"', "/a:/b"
    ),
    "preload": Case(
        lambda _: ("libm.so.6",), "grep -c 'libm[.-].*r-xp\\|r-xp.*libm' /proc/$$/maps", "1"
    ),
    "device_nodes": Case(
        lambda _: (DeviceNode("/dev/null", "/dev/null"),), "test -w /dev/null && echo yes", "yes"
    ),
    "mounts": Case(lambda cwd: (Mount(cwd, cwd),), "touch here && ls here", "here"),
    "files": Case(lambda cwd: (ConfigFile(f"{cwd}/acme.conf", b"acme"),), "cat acme.conf", "acme"),
    "cdi_names": Case(lambda _: ("acme.com/card=0",)),
    "device_requests": Case(lambda _: (DeviceRequest("acme", ("0",)),)),
    "groups": Case(
        lambda _: (OUTSIDER,),
        f"id -G | grep -cw {OUTSIDER}",
        "1",
        untellable="" if os.geteuid() == 0 else "only root adds groups",
    ),
    "rlimits": Case(lambda _: {"nofile": 77}, "ulimit -n", "77"),
    "limits": Case(
        lambda _: {"memory": 1 << 20, "cpus": 10},  # pids: see the tests of bombs
        f"head -c {MEBIBYTES}m /dev/zero | tail -c {MEBIBYTES}m | wc -c",
        str(MEBIBYTES << 20),
    ),
    "cpuset": Case(
        lambda _: Cpuset(tuple(CORES[-1:])),
        "sed -n 's/^Cpus_allowed_list:.//p' /proc/self/status",
        str(CORES[-1]),
        untellable="" if len(CORES) > 1 else "this host has one core",
    ),
    "syscalls": Case(lambda _: ("mbind",), "sed -n 's/^Seccomp:.//p' /proc/self/status", ""),
    "networks": Case(lambda _: ("acme",)),
    "labels": Case(lambda _: {"acme": "1"}, "env | grep -c acme", "0"),
    "resource_data": Case(lambda _: {"ACME": "1"}, "ls | grep -v state; env | grep -c ACME", "0"),
    "hooks": Case(lambda _: (Hook("poststop", "/bin/true"),)),
}
"""A new field of the edits fails here until it has a case."""


@pytest.mark.parametrize("field", EDIT_FIELDS)
@at_work
async def test_each_edit_becomes_what_the_table_says(bench, field):
    case, cwd = CASES[field], bench.setting.cwd
    if case.untellable:
        pytest.skip(case.untellable)
    without = await printed(bench, case.script, ContainerEdits())
    edited = await printed(bench, case.script, ContainerEdits(**{field: case.value(cwd)}))

    assert outcome_of(without, edited) is EDITS[field].outcome
    if edited is None:
        assert list((bench.setting.state_dir / "containers").iterdir()) == []
    if edited is not None and case.prints:
        assert edited == case.prints


def test_every_field_has_a_cell_and_a_case():
    assert list(EDITS) == list(EDIT_FIELDS)
    assert list(CASES) == list(EDIT_FIELDS)
