"""One value of each field of the edits, to see whether a backend refuses it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from agent_core.contracts.edits import (
    ConfigFile,
    Cpuset,
    DeviceNode,
    DeviceRequest,
    Hook,
    Mount,
)

SAMPLES: Final[Mapping[str, Any]] = {
    "env": {"ACME": "1"},
    "path_env": {"ACME_PATH": ("/opt/acme",)},
    "preload": ("/opt/acme/libacme.so",),
    "device_nodes": (DeviceNode("/dev/null", "/dev/null"),),
    "mounts": (Mount("/usr", "/usr"),),
    "files": (ConfigFile("/opt/acme/acme.conf", b"acme"),),
    "cdi_names": ("acme.com/card=0",),
    "device_requests": (DeviceRequest("acme", ("0",)),),
    "groups": ("0",),
    "rlimits": {"nofile": 64},
    "limits": {"memory": 1 << 30},
    "cpuset": Cpuset((0,)),
    "syscalls": ("mbind",),
    "networks": ("conformance",),
    "labels": {"acme": "1"},
    "resource_data": {"ACME": "1"},
    "hooks": (Hook("poststop", "/bin/true"),),
}
"""A field of the edits that is not here fails the suite of every backend that refuses it."""
