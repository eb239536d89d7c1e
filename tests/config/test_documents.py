"""The examples of the documents that this agent follows load as they stand; mistakes are named."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent_core.config.loader import load
from agent_core.contracts.errors import InvalidConfig

INSTALLATION = """\
[etcd]
namespace = "local"
addr = { host = "bai-m1", port = 8120 }
user = ""
password = ""

[agent]
mode = "docker"
# NOTE: You cannot use network alias here. Write the actual IP address.
rpc-listen-addr = { host = "10.20.30.10", port = 6001 }
# id = "i-something-special"
scaling-group = "default"
pid-file = "/home/bai/agent/agent.pid"
event-loop = "uvloop"
# allow-compute-plugins = ["ai.backend.accelerator.cuda_open"]

[container]
port-range = [30000, 31000]
kernel-uid = 1100
kernel-gid = 1100
bind-host = "bai-m1"
advertised-host = "bai-m1"
stats-type = "docker"
sandbox-type = "docker"
jail-args = []
scratch-type = "hostdir"
scratch-root = "./scratches"
scratch-size = "1G"

[watcher]
service-addr = { host = "bai-a01", port = 6009 }
ssl-enabled = false
target-service = "backendai-agent.service"
soft-reset-available = false

[logging]
level = "INFO"
drivers = ["console", "file"]

[logging.console]
colored = true
format = "verbose"

[logging.file]
path = "./logs"
filename = "agent.log"
backup-count = 10
rotation-size = "10M"

[logging.pkg-ns]
"" = "WARNING"
"aiodocker" = "INFO"
"aiotools" = "INFO"
"aiohttp" = "INFO"
"ai.backend" = "INFO"

[resource]
reserved-cpu = 1
reserved-mem = "1G"
reserved-disk = "8G"

[debug]
enabled = false
skip-container-deletion = false
asyncio = false
enhanced-aiomonitor-task-info = true
log-events = false
log-kernel-config = false
log-alloc-map = false
log-stats = false
log-heartbeats = false
log-docker-events = false

[debug.coredump]
enabled = false
path = "./coredumps"
backup-count = 10
size-limit = "64M"
"""

DUMMY = """\
[agent]
mode = "dummy" # or backend = "dummy"

[agent.intrinsic.cpu]
core-indexes = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]

[agent.intrinsic.memory]
size = 50000000000

[agent.delay]
scan-image = 0.1

[agent.image.already-have]
'cr.backend.ai/multiarch/python:3.9-ubuntu20.04' = ''

[kernel-creation-ctx.delay]
start-container = 2.0

[kernel]
use-fake-code-runner = true

[kernel.delay]
commit = 10.0
"""

SECOND_DUMMY = """\
[agent]
mode = "dummy"
rpc-listen-addr = { host = "127.0.0.1", port = 6012 }
agent-sock-port = 6008
id = "dummy-agent2"
pid-file = "./agent2.pid"
ipc-base-path = "/tmp/backend.ai/ipc"
var-base-path = "var/lib/backend.ai"
"""

MOCK = '[agent]\nallowed-compute-plugins = ["ai.backend.accelerator.mock"]\n'


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "agent.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "tables"),
    [
        (
            INSTALLATION,
            ["etcd", "container", "watcher", "resource", "debug"],
        ),
        (DUMMY, []),
        (SECOND_DUMMY, ["agent"]),
    ],
    ids=["installation", "dummy", "second dummy"],
)
def test_an_example_loads_as_it_stands_and_says_what_is_not_yet_in_effect(tmp_path, text, tables):
    warnings = load(write(tmp_path, text), environ={}).warnings
    assert [w.split("[")[1].split("]")[0] for w in warnings] == tables
    assert all("known but not yet in effect" in warning for warning in warnings)


def test_what_the_example_of_the_installation_says_is_in_effect(tmp_path):
    config = load(write(tmp_path, INSTALLATION), environ={}).config
    assert (config.agent.backend, config.agent.event_loop) == ("docker", "uvloop")
    assert config.container.scratch_size == 1 << 30
    assert config.container.scratch_root == tmp_path / "scratches"
    assert config.logging.file.path == tmp_path / "logs"
    assert config.logging.pkg_ns["aiodocker"] == "INFO"


def test_the_example_of_the_mock_accelerator_loads_with_a_word_about_its_spelling(tmp_path):
    loaded = load(write(tmp_path, MOCK), environ={})
    assert loaded.config.selection.allow_devices == ("ai.backend.accelerator.mock",)
    (warning,) = loaded.warnings
    assert "old spelling of allow-compute-plugins" in warning


@pytest.mark.parametrize(
    ("text", "line", "key", "what", "hint"),
    [
        ('[container]\nscratch-size = "12 parsecs"', 2, "container.scratch-size", "parsecs", "4G"),
        ('[resource]\nreserved-disk = "1 Q"', 2, "resource.reserved-disk", "1 Q", "4G"),
        ("[[agent]]\nid = 'a'", 1, "agent", "should be a table", ""),
        ("[agent]\nid = 'a'\nid = 'b'", 3, "", "is not TOML", ""),
        ("[agent]\nscratch-root = '/x'", 2, "agent.scratch-root", "unknown", "[container]"),
        ("[container]\nreserved-mem = '1G'", 2, "container.reserved-mem", "unknown", "[resource]"),
        ("[agent]\nlog-stats = true", 2, "agent.log-stats", "unknown", "[debug]"),
        ("[agent]\nmode = 'a'\nbackend = 'b'", 3, "agent.backend", "contradicts mode", "one"),
        (
            "[agent]\nservice-addr = 'a:1'\ninternal-addr = 'b:1'",
            3,
            "agent.internal-addr",
            "contradicts service-addr",
            "one",
        ),
        (
            "[agent]\nkernel-creation-concurrency = 0",
            2,
            "agent.kernel-creation-concurrency",
            "",
            "",
        ),
        ("[etcd]\naddr = 5", 2, "etcd.addr", "should be a table", "host:port"),
    ],
)
def test_a_mistake_is_named_with_its_line_and_how_to_mend_it(tmp_path, text, line, key, what, hint):
    with pytest.raises(InvalidConfig) as refused:
        load(write(tmp_path, text + "\n"), environ={})
    fault = refused.value.details["faults"][0]
    assert (fault["line"], fault["key"].split("[")[0]) == (line, key)
    assert what in fault["what"]
    assert hint in fault["hint"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("AGENT_RESOURCE__DEVICE_MASK", "{broken"),
        ("AGENT_RESOURCE__RESERVED_MEM", "12 parsecs"),
        ("AGENT_CONTAINER__PORT_RANGE", "[1"),
        ("BACKEND_CONTAINER_PORT_RANGE", "everything"),
        ("AGENT_AGENT__SYNC_CONTAINER_LIFECYCLES", "yes"),
    ],
)
def test_a_variable_that_is_no_value_is_named(name, value):
    with pytest.raises(InvalidConfig) as refused:
        load(None, environ={name: value})
    assert f"${name}: " in refused.value.message
