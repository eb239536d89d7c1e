"""One device class, three runtimes: what `describe` says is neutral.

The renderers are pure functions. Each says what its runtime has no words for, so that nothing is
lost in silence.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from agent_core.contracts.amount import Amount
from agent_core.contracts.device import ComputeDevice, Counter, Device, Grant, Offer
from agent_core.contracts.edits import (
    EDIT_FIELDS,
    ConfigFile,
    ContainerEdits,
    Cpuset,
    DeviceNode,
    DeviceRequest,
    Hook,
    MergedEdits,
    Mount,
    Permission,
)
from agent_core.contracts.info import PluginInfo, SlotInfo, SlotType


class AcmeDevice(ComputeDevice):
    """A vendor's class as a vendor would write it; it knows of no runtime."""

    info = PluginInfo("device", "acme", slots=(SlotInfo("acme.device", SlotType.COUNT),))

    def devices(self) -> Sequence[Device]:
        return [
            Device(
                f"ACME-{n}",
                "ACME One",
                (Counter(f"ACME-{n}", 1),),
                (Offer("acme.device", Amount(1), {f"ACME-{n}": 1}),),
                attributes={"minor": str(n)},
            )
            for n in range(2)
        ]

    def describe(self, grants: Sequence[Grant]) -> ContainerEdits:
        minors = [grant.device_id.removeprefix("ACME-") for grant in grants]
        return ContainerEdits(
            env={"ACME_VISIBLE_DEVICES": ",".join(minors)},
            path_env={"LD_LIBRARY_PATH": ("/opt/acme/lib",)},
            preload=("/opt/acme/lib/shim.so",),
            device_nodes=(
                *(DeviceNode(f"/dev/acme{m}", f"/dev/acme{m}") for m in minors),
                DeviceNode("/dev/acmectl", "/dev/acmectl", "r"),
            ),
            mounts=(
                Mount("/usr/lib/acme", "/opt/acme/lib"),
                Mount("/var/cache/acme", "/opt/acme/cache", Permission.RW),
            ),
            files=(ConfigFile("/etc/acme.conf", b"one\n"),),
            groups=("44", "video"),
            rlimits={"memlock": -1},
            hooks=(Hook("createContainer", "/usr/bin/acme-hook", ("acme-hook", "up")),),
        )


EVERYTHING = ContainerEdits(
    cdi_names=("acme.com/device=0",),
    device_requests=(DeviceRequest("nvidia", ("GPU-1",), ("gpu",)),),
    limits={"cpus": 1500, "memory": 1 << 30, "swap": 0, "shm": 1 << 26, "pids": 512},
    cpuset=Cpuset((0, 1, 2, 7), (0,)),
    syscalls=("mbind",),
    networks=("acme-fabric",),
    labels={"com.acme": "1"},
    resource_data={"ACME_COUNT": "1"},
)


@dataclass(frozen=True)
class Rendered:
    """What a runtime is told, and the fields that it has no words for."""

    reply: Mapping[str, Any]
    left_out: tuple[str, ...]


def left_out(edits: ContainerEdits, *said: str) -> tuple[str, ...]:
    empty = ContainerEdits()
    return tuple(f for f in EDIT_FIELDS if f not in said and getattr(edits, f) != getattr(empty, f))


def environment(edits: ContainerEdits) -> dict[str, str]:
    env = MergedEdits.of("all", edits).environment()
    return {**env, **({"LD_PRELOAD": ":".join(edits.preload)} if edits.preload else {})}


def as_docker(edits: ContainerEdits) -> Rendered:
    """Render the body of Docker's ``POST /containers/create``."""
    host: dict[str, Any] = {
        "Devices": [
            {"PathOnHost": n.host_path, "PathInContainer": n.path,
             "CgroupPermissions": n.permissions}
            for n in edits.device_nodes
        ],
        "DeviceRequests": [
            {"Driver": r.driver, "DeviceIDs": [*r.device_ids], "Capabilities": [[*r.capabilities]]}
            for r in edits.device_requests
        ]
        + [{"Driver": "cdi", "DeviceIDs": [*edits.cdi_names]}] * bool(edits.cdi_names),
        "Mounts": [
            {"Type": "bind", "Source": m.source, "Target": m.target,
             "ReadOnly": m.permission is Permission.RO}
            for m in edits.mounts
        ],
        "GroupAdd": [*edits.groups],
        "Ulimits": [{"Name": n, "Soft": v, "Hard": v} for n, v in sorted(edits.rlimits.items())],
    }  # fmt: skip
    keys = {"memory": ("Memory", 1), "shm": ("ShmSize", 1), "pids": ("PidsLimit", 1),
            "cpus": ("NanoCpus", 1_000_000)}  # fmt: skip
    host.update({keys[k][0]: v * keys[k][1] for k, v in edits.limits.items() if k in keys})
    if {"memory", "swap"} <= edits.limits.keys():
        host["MemorySwap"] = edits.limits["memory"] + edits.limits["swap"]
    if edits.cpuset:
        host["CpusetCpus"] = ",".join(map(str, edits.cpuset.cpus))
        host["CpusetMems"] = ",".join(map(str, edits.cpuset.mems))
    body = {
        "Env": [f"{k}={v}" for k, v in sorted(environment(edits).items())],
        "Labels": dict(edits.labels),
        "HostConfig": {key: value for key, value in host.items() if value not in ([], "")},
        "NetworkingConfig": {"EndpointsConfig": {name: {} for name in edits.networks}},
    }
    said = [f for f in EDIT_FIELDS if f not in ("files", "syscalls", "resource_data", "hooks")]
    return Rendered(body, left_out(edits, *said))


def access(mount: Mount) -> str:
    return "ro" if mount.permission is Permission.RO else "rw"


def as_cdi(name: str, edits: ContainerEdits) -> Rendered:
    """Render a CDI specification file with one device."""
    gids = [int(group) for group in edits.groups if group.isdecimal()]
    containers = {
        "env": [f"{k}={v}" for k, v in sorted(environment(edits).items())],
        "deviceNodes": [
            {"path": n.path, "hostPath": n.host_path, "permissions": n.permissions}
            for n in edits.device_nodes
        ],
        "mounts": [
            {"hostPath": m.source, "containerPath": m.target,
             "options": [access(m), "nosuid", "nodev", "bind"]}
            for m in edits.mounts
        ],
        "hooks": [
            {"hookName": h.stage, "path": h.path, "args": [*h.args]} for h in edits.hooks
        ],
        "additionalGids": gids,
    }  # fmt: skip
    vendor, _, device = name.partition("=")
    filled = {key: value for key, value in containers.items() if value}
    spec = {
        "cdiVersion": "0.7.0",
        "kind": vendor,
        "devices": [{"name": device, "containerEdits": filled}],
    }
    said = ["env", "path_env", "preload", "device_nodes", "mounts", "hooks"]
    return Rendered(spec, left_out(edits, *said, *["groups"] * (len(gids) == len(edits.groups))))


def as_kubelet(edits: ContainerEdits) -> Rendered:
    """Render one ContainerAllocateResponse of the kubelet's device plugin API, v1beta1."""
    reply = {
        "envs": environment(edits),
        "mounts": [
            {"container_path": m.target, "host_path": m.source,
             "read_only": m.permission is Permission.RO}
            for m in edits.mounts
        ],
        "devices": [
            {"container_path": n.path, "host_path": n.host_path, "permissions": n.permissions}
            for n in edits.device_nodes
        ],
        "annotations": dict(edits.labels),
        "cdi_devices": [{"name": name} for name in edits.cdi_names],
    }  # fmt: skip
    said = ["env", "path_env", "preload", "mounts", "device_nodes", "labels", "cdi_names"]
    return Rendered(reply, left_out(edits, *said))


@pytest.fixture
def edits() -> ContainerEdits:
    return AcmeDevice().describe([Grant("acme.device", "ACME-1", Amount(1))])


ENV = {
    "ACME_VISIBLE_DEVICES": "1",
    "LD_LIBRARY_PATH": "/opt/acme/lib",
    "LD_PRELOAD": "/opt/acme/lib/shim.so",
}


def test_docker_is_told_all_but_what_is_copied_or_refused(edits: ContainerEdits) -> None:
    docker = as_docker(edits)

    assert docker.reply["Env"] == [f"{key}={value}" for key, value in ENV.items()]
    assert docker.reply["HostConfig"] == {
        "Devices": [
            {
                "PathOnHost": "/dev/acme1",
                "PathInContainer": "/dev/acme1",
                "CgroupPermissions": "rw",
            },
            {
                "PathOnHost": "/dev/acmectl",
                "PathInContainer": "/dev/acmectl",
                "CgroupPermissions": "r",
            },
        ],
        "Mounts": [
            {
                "Type": "bind",
                "Source": "/usr/lib/acme",
                "Target": "/opt/acme/lib",
                "ReadOnly": True,
            },
            {
                "Type": "bind",
                "Source": "/var/cache/acme",
                "Target": "/opt/acme/cache",
                "ReadOnly": False,
            },
        ],
        "GroupAdd": ["44", "video"],
        "Ulimits": [{"Name": "memlock", "Soft": -1, "Hard": -1}],
    }
    # Files are copied in after create, and hooks are what Docker refuses.
    assert docker.left_out == ("files", "hooks")


def test_dockers_limits_requests_and_networks_are_rendered_too() -> None:
    docker = as_docker(EVERYTHING)

    assert docker.reply["HostConfig"] == {
        "DeviceRequests": [
            {"Driver": "nvidia", "DeviceIDs": ["GPU-1"], "Capabilities": [["gpu"]]},
            {"Driver": "cdi", "DeviceIDs": ["acme.com/device=0"]},
        ],
        "NanoCpus": 1_500_000_000,
        "Memory": 1 << 30,
        "MemorySwap": 1 << 30,
        "ShmSize": 1 << 26,
        "PidsLimit": 512,
        "CpusetCpus": "0,1,2,7",
        "CpusetMems": "0",
    }
    assert docker.reply["NetworkingConfig"] == {"EndpointsConfig": {"acme-fabric": {}}}
    assert docker.left_out == ("syscalls", "resource_data")


def test_a_cdi_file_is_told_what_it_can_say(edits: ContainerEdits) -> None:
    cdi = as_cdi("acme.com/device=1", edits)

    assert re.fullmatch(r"[a-z][a-z0-9.-]*/[a-z][a-z0-9_-]*", cdi.reply["kind"])
    (device,) = cdi.reply["devices"]
    assert device["name"] == "1"
    said = device["containerEdits"]
    assert said["env"] == [f"{key}={value}" for key, value in ENV.items()]
    assert said["deviceNodes"][0] == {
        "path": "/dev/acme1",
        "hostPath": "/dev/acme1",
        "permissions": "rw",
    }
    assert said["mounts"][0]["options"] == ["ro", "nosuid", "nodev", "bind"]
    assert said["hooks"] == [
        {
            "hookName": "createContainer",
            "path": "/usr/bin/acme-hook",
            "args": ["acme-hook", "up"],
        }
    ]
    assert said["additionalGids"] == [44]
    assert cdi.left_out == ("files", "groups", "rlimits")


def test_a_kubelet_is_told_what_it_can_say(edits: ContainerEdits) -> None:
    kubelet = as_kubelet(edits)

    assert kubelet.reply["envs"] == ENV
    assert kubelet.reply["devices"][1] == {
        "container_path": "/dev/acmectl",
        "host_path": "/dev/acmectl",
        "permissions": "r",
    }
    assert [m["read_only"] for m in kubelet.reply["mounts"]] == [True, False]
    assert kubelet.left_out == ("files", "groups", "rlimits", "hooks")
    assert as_kubelet(EVERYTHING).reply["cdi_devices"] == [{"name": "acme.com/device=0"}]


@pytest.mark.parametrize("render", [as_docker, as_kubelet, lambda e: as_cdi("acme.com/x=1", e)])
def test_what_is_rendered_is_json_and_nothing_is_lost_in_silence(
    render: Any, edits: ContainerEdits
) -> None:
    merged = (MergedEdits.of("acme", edits) | MergedEdits.of("mem", EVERYTHING)).resolve()

    rendered = render(merged)

    text = json.dumps(rendered.reply)
    markers = {
        "env": "ACME_VISIBLE", "path_env": "LD_LIBRARY_PATH", "preload": "shim.so",
        "device_nodes": "/dev/acme1", "mounts": "/var/cache/acme", "files": "acme.conf",
        "cdi_names": "acme.com/device=0", "device_requests": "GPU-1", "groups": "video",
        "rlimits": "memlock", "limits": "1500000000", "cpuset": "0,1,2,7", "syscalls": "mbind",
        "networks": "acme-fabric", "labels": "com.acme", "resource_data": "ACME_COUNT",
        "hooks": "acme-hook",
    }  # fmt: skip
    assert tuple(markers) == EDIT_FIELDS
    assert {f for f in EDIT_FIELDS if markers[f] not in text} == set(rendered.left_out)
