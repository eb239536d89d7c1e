"""Every cell of the table of edits, as the processes of a real container see it."""

from __future__ import annotations

import json
import os
from typing import ClassVar

import pytest
from agent_backend_docker.declaration import EDITS
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
    Permission,
)
from agent_core.contracts.errors import Unsupported
from agent_core.testing.backend_bench import at_work

pytestmark = pytest.mark.requires("docker")

CORES = sorted(os.sched_getaffinity(0))
OUTSIDER = "12345"
NETWORK = "cells"


CASES = {
    "env": Case(lambda _: {"ACME": "1"}, 'echo "${ACME}"', "1"),
    "path_env": Case(
        lambda _: {"LD_LIBRARY_PATH": ("/a", "/b")}, 'echo "$LD_LIBRARY_PATH"', "/a:/b"
    ),
    "preload": Case(lambda _: ("/opt/a.so",), 'echo "$LD_PRELOAD"', "/opt/a.so"),
    "device_nodes": Case(
        lambda _: (DeviceNode("/dev/acme", "/dev/null"),), "test -c /dev/acme && echo yes", "yes"
    ),
    "mounts": Case(
        lambda cwd: (Mount(cwd, "/opt/here", Permission.RW),),
        "touch /opt/here/seen 2>/dev/null && ls /opt/here",
        "seen",
    ),
    "files": Case(
        lambda _: (ConfigFile("/opt/acme/acme.conf", b"acme", 0o400),),
        "cat /opt/acme/acme.conf && stat -c %a /opt/acme/acme.conf",
        "acme400",
    ),
    "cdi_names": Case(lambda _: ("acme.com/card=0",), untellable="see the tests of CDI"),
    "device_requests": Case(
        lambda _: (DeviceRequest("acme", ("0",)),), untellable="this engine has no driver"
    ),
    "groups": Case(lambda _: (OUTSIDER,), f"id -G | tr ' ' '\\n' | grep {OUTSIDER}", OUTSIDER),
    "rlimits": Case(lambda _: {"nofile": 77}, "ulimit -n", "77"),
    "limits": Case(
        lambda _: {"memory": 64 << 20, "pids": 77, "shm": 1 << 20},
        "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/pids/pids.max"
        " 2>/dev/null || cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/pids.max",
        f"{64 << 20}\n77",
    ),
    "cpuset": Case(
        lambda _: Cpuset(tuple(CORES[-1:])),
        "grep Cpus_allowed_list /proc/self/status | tr -d '\\t' | sed 's/.*://'",
        str(CORES[-1]),
        untellable="" if len(CORES) > 1 else "this host has one core",
    ),
    "syscalls": Case(lambda _: ("mbind",), untellable="see the tests of profiles"),
    "networks": Case(lambda _: (NETWORK,), untellable="see the tests of networks"),
    "labels": Case(lambda _: {"acme": "1"}, untellable="see the test of labels"),
    "resource_data": Case(lambda _: {"ACME": "1"}, "env | grep -c ACME", "0"),
    "hooks": Case(lambda _: (Hook("poststop", "/bin/true"),)),
}
"""A new field of the edits fails here until it has a case."""


@pytest.mark.parametrize("field", EDIT_FIELDS)
@at_work
async def test_each_edit_becomes_what_the_table_says(bench, field, tmp_path):
    case = CASES[field]
    if case.untellable:
        pytest.skip(case.untellable)
    value = case.value(str(tmp_path))
    without = await printed(bench, case.script, ContainerEdits())
    edited = await printed(bench, case.script, ContainerEdits(**{field: value}))

    assert outcome_of(without, edited) is EDITS[field].outcome
    if edited is not None and case.prints:
        assert edited == case.prints


def test_every_field_has_a_cell_and_a_case():
    assert list(EDITS) == list(EDIT_FIELDS)
    assert list(CASES) == list(EDIT_FIELDS)


@at_work
async def test_labels_are_the_containers_and_none_of_ours_can_be_taken(bench, engine):
    spec = await bench.created(bench_argv(), edits=ContainerEdits(labels={"acme": "1"}))
    shown = engine.docker("inspect", "--format", "{{json .Config.Labels}}", spec.name)
    assert json.loads(shown)["acme"] == "1"
    edits = ContainerEdits(labels={"ai.backend.owner": "somebody"})
    with pytest.raises(Unsupported, match=r"ai\.backend\.owner"):
        await bench.created(bench_argv(), edits=edits)


@at_work
async def test_peers_of_a_network_reach_each_other_by_their_host_names(bench):
    await bench.backend.create_network(f"{bench.owner}.a")
    await bench.backend.create_network(f"{bench.owner}.a")
    await bench.backend.create_network(f"{bench.owner}.b")
    both = ContainerEdits(networks=(f"{bench.owner}.a", f"{bench.owner}.b"))
    one = ContainerEdits(networks=(f"{bench.owner}.b",))
    serve = ("/bin/sh", "-c", "echo ready-to-go; echo hello-from-main1 | nc -l -p 8000")
    main = await bench.ready(serve, edits=both, hostname="main1")
    assert list(await bench.backend.verify(main.name, both)) == []
    assert await bench.backend.verify(main.name, ContainerEdits(networks=("others",))) == [
        "network others: not joined"
    ]
    ask = ("/bin/sh", "-c", "nc main1 8000 < /dev/null; hostname; cat /etc/hostname")
    sub = await bench.started(ask, edits=one, hostname="sub1")
    await bench.ended(sub)
    text = await bench.text(sub)
    assert "hello-from-main1" in text
    assert "sub1" in text
    for spec in (main, sub):
        await bench.backend.remove(spec.name)
    for name in ("a", "b", "b"):
        await bench.backend.remove_network(f"{bench.owner}.{name}")


def bench_argv():
    return ("/bin/sh", "-c", "exit 0")


class TestDevicesOfTheHostsFiles:
    """What an engine without CDI is asked for in the place of a device's CDI name."""

    ACME: ClassVar = {
        "kind": "acme.com/card",
        "devices": [
            {
                "name": "0",
                "containerEdits": {
                    "deviceNodes": [{"path": "/dev/acme0", "hostPath": "/dev/zero"}],
                    "env": ["ACME_CARD=0"],
                },
            }
        ],
    }

    @pytest.fixture
    def options(self, tmp_path):
        (tmp_path / "cdi").mkdir()
        (tmp_path / "cdi" / "acme.json").write_text(json.dumps(self.ACME))
        return {"cdi-spec-dirs": [str(tmp_path / "cdi")]}

    @at_work
    async def test_are_given_and_verified(self, bench, tmp_path):
        edits = ContainerEdits(cdi_names=("acme.com/card=0",))
        script = 'test -c /dev/acme0 && echo "card $ACME_CARD"; echo ready-to-go; sleep 600'
        spec = await bench.ready(("/bin/sh", "-c", script), edits=edits)
        assert "card 0" in await bench.text(spec)
        await bench.backend.create(spec)  # the same again does nothing
        assert list(await bench.backend.verify(spec.name, edits)) == []
        other = json.dumps(self.ACME).replace("/dev/zero", "/dev/null")
        (tmp_path / "cdi" / "acme.json").write_text(other)
        (difference,) = await bench.backend.verify(spec.name, edits)
        assert "/dev/acme0" in difference
