"""Every key of the documents that this agent follows is in effect, pending or refused; here is
which, and why that is so."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from agent_core.config.catalogue import Effect, entries
from agent_core.config.loader import load
from agent_core.config.pending import feature_of
from agent_core.config.refused import REFUSED
from agent_core.config.vocabulary import ALIASES
from agent_core.contracts.errors import InvalidConfig
from agent_core.loops import factory_of
from agent_core.offers import plugin_tables
from agent_core.reloading import settings_of

TESTS = Path(__file__).parents[1]

NAMED = """
etcd: namespace addr user password
agent: backend mode rpc-listen-addr internal-addr service-addr announce-internal-addr announce-addr
agent: ssl-enabled ssl-cert ssl-key advertised-rpc-addr rpc-auth-manager-public-key
agent: rpc-auth-agent-keypair ipc-base-path var-base-path mount-path cohabiting-storage-proxy
agent: public-host region instance-type pid-file event-loop skip-manager-detection
agent: aiomonitor-termui-port aiomonitor-webui-port metadata-server-bind-host metadata-server-port
agent: allow-compute-plugins allowed-compute-plugins block-compute-plugins allow-network-plugins
agent: block-network-plugins image-commit-path abuse-report-path docker-mode mount-path-uid-gid id
agent: agent-sock-port scaling-group initial-resource-group-name scaling-group-type
agent: force-terminate-abusing-containers kernel-creation-concurrency
agent: intrinsic delay image resource
agent.sync-container-lifecycles: enabled interval
agent.utilization-metric.node: enable interval
agent.utilization-metric.container: enable interval
agent.utilization-metric.process: enable interval
container: bind-host kernel-host advertised-host krunner-volumes kernel-uid kernel-gid port-range
container: port-reuse-cooldown-sec stats-type sandbox-type jail-args scratch-type scratch-root
container: scratch-size scratch-nfs-address scratch-nfs-options alternative-bridge swarm-enabled
resource: reserved-cpu reserved-mem reserved-disk allocation-mode allocations memory-align-size
resource: allocation-order affinity-policy
container-logs: driver max-length chunk-size
api: pull-timeout commit-timeout push-timeout
kernel-lifecycles: init-polling-attempt init-polling-timeout-sec init-timeout-sec
debug: enabled asyncio kernel-runner enhanced-aiomonitor-task-info skip-container-deletion log-stats
debug: log-kernel-config log-alloc-map log-events log-heartbeats heartbeat-interval
debug: log-docker-events
debug.coredump: enabled path backup-count size-limit
logging: level drivers pkg-ns
logging.console: colored format
logging.file: path filename backup-count rotation-size format
logging.logstash: endpoint protocol ssl-enabled ssl-verify
logging.graylog: host port level localname fqdn ssl-verify ca-certs keyfile certfile
redis: addr password
pyroscope: enabled app-name server-addr sample-rate
otel: enabled log-level endpoint max-queue-size max-export-batch-size
service-discovery: type instance-id service-group endpoints
watcher: service-addr ssl-enabled ssl-cert ssl-key target-service soft-reset-available
"""


def named() -> set[tuple[str, ...]]:
    found = {("agents",), ("kernel",), ("kernel-creation-ctx",)}
    for line in NAMED.strip().splitlines():
        table, _, keys = line.partition(": ")
        found |= {(*table.split("."), key) for key in keys.split()}
    return found


def canonical(path: tuple[str, ...]) -> tuple[str, ...]:
    return (*path[:-1], ALIASES[path].key) if path in ALIASES else path


CLASSES = {entry.path: entry for entry in entries()}
EVERY = sorted({*map(canonical, named()), *CLASSES})


def of(effect: Effect) -> list[tuple[str, ...]]:
    return [path for path in EVERY if path in CLASSES and CLASSES[path].effect is effect]


def dotted(path: tuple[str, ...]) -> str:
    return ".".join(path)


def test_every_key_that_the_documents_name_is_known():
    assert {dotted(path) for path in map(canonical, named())} <= {dotted(path) for path in CLASSES}


def test_no_key_is_in_two_classes():
    listed = [entry.dotted for entry in entries()]
    assert sorted(listed) == sorted(set(listed))


# ---- in effect ---------------------------------------------------------------------------------


def settings(config: Any) -> Any:
    return settings_of(config, Path("/run"), None)


def offered(label: str, key: str) -> Any:
    return lambda config: plugin_tables(config).offered[label][key]


CONSUMED: dict[str, tuple[str, Any, Any]] = {
    "agent.id": ('"i-x"', lambda c: c.paths.state.name, "i-x"),
    "agent.backend": ('"dummy"', lambda c: c.selection.backend, "dummy"),
    "agent.allow-compute-plugins": ('["a"]', lambda c: c.selection.allow_devices, ("a",)),
    "agent.block-compute-plugins": ('["a"]', lambda c: c.selection.block_devices, ("a",)),
    "agent.ipc-base-path": ('"/i"', lambda c: c.paths.run.is_relative_to("/i"), True),
    "agent.var-base-path": ('"/v"', lambda c: c.paths.state.is_relative_to("/v"), True),
    "agent.event-loop": ('"uvloop"', lambda c: factory_of(c.agent.event_loop).__module__, "uvloop"),
    "agent.image-commit-path": ('"/c"', lambda c: str(settings(c).commit_path), "/c"),
    "agent.sync-container-lifecycles.enabled": (
        "false",
        lambda c: settings(c).look_interval,
        None,
    ),
    "agent.sync-container-lifecycles.interval": ("7", lambda c: settings(c).look_interval, 7),
    "plugins.allow": ('["a"]', lambda c: c.selection.allow, ("a",)),
    "plugins.block": ('["a"]', lambda c: c.selection.block, ("a",)),
    "plugins.inline": ('["a"]', lambda c: c.selection.inline, ("a",)),
    "container.scratch-type": ('"x"', lambda c: c.selection.scratch, "x"),
    "container.scratch-root": ('"/s"', offered("scratch", "root"), "/s"),
    "container.runner": ('"x"', lambda c: c.selection.runner, "x"),
    "container.kernel-uid": ("1234", lambda c: settings(c).kernel_user.uid, 1234),
    "container.kernel-gid": ("1234", lambda c: settings(c).kernel_user.gid, 1234),
    "container.alternative-bridge": (
        '"kernels"',
        lambda c: plugin_tables(c).offered.get("backend", {}).get("network"),
        "kernels",
    ),
    "container.swarm-enabled": (
        "true",
        lambda c: plugin_tables(c).offered.get("backend", {}).get("swarm-enabled"),
        True,
    ),
    "container-logs.driver": (
        '"json-file"',
        lambda c: plugin_tables(c).offered.get("backend", {}).get("log-driver"),
        "json-file",
    ),
    "container.stop-grace": ("3", lambda c: settings(c).stop_grace, 3),
    "container.bind-host": ('"10.0.0.9"', lambda c: settings(c).advertised_host, "10.0.0.9"),
    "container.advertised-host": ('"n"', lambda c: settings(c).advertised_host, "n"),
    "container.built-in-services": (
        '["sshd"]',
        lambda c: settings(c).built_in_services,
        ("sshd",),
    ),
    "container-logs.max-length": ('"1M"', lambda c: settings(c).log_limit, 1 << 20),
    "resource.reserved-cpu": ("3", offered("device:cpu", "reserved"), 3),
    "resource.reserved-mem": ('"2G"', offered("device:mem", "reserved"), 2 << 30),
    "resource.shared-cpu": ("3", offered("device:cpu", "shared"), 3),
    "resource.cpu-overcommit": ("1.5", offered("device:cpu", "overcommit"), "1.5"),
    "resource.mem-overcommit": ("1.5", offered("device:mem", "overcommit"), "1.5"),
    "api.pull-timeout": ('"none"', lambda c: settings(c).pull_timeout, None),
    "api.commit-timeout": ("5", lambda c: settings(c).commit_timeout, 5),
    "api.push-timeout": ('"5m"', lambda c: settings(c).push_timeout, 300),
    "kernel-lifecycles.init-timeout": ("5", lambda c: settings(c).init_timeout, 5),
    "kernel-lifecycles.stranger-policy": (
        '"remove"',
        lambda c: settings(c).stranger_policy,
        "remove",
    ),
    "kernel-lifecycles.stranger-grace": ("5", lambda c: settings(c).stranger_grace, 5),
    "debug.coredump.enabled": ("true", lambda c: settings(c).cores is not None, True),
    "debug.kernel-runner": ("true", lambda c: settings(c).debug_runners, True),
    "debug.log-kernel-config": ("true", lambda c: settings(c).log_kernel_config, True),
    "debug.log-alloc-map": ("true", lambda c: settings(c).log_alloc_map, True),
    "debug.skip-container-deletion": ("true", lambda c: settings(c).keep_ended, True),
    "debug.log-docker-events": ("true", lambda c: settings(c).log_backend_events, True),
}
"""For each key a value, and what its consumer has of it then."""

_LIVE = "end_to_end/test_reloading.py::test_what_is_safe_is_taken_over_while_a_kernel_runs"
_LEVELS = "config/test_logs.py::test_levels_of_single_loggers_are_obeyed"
_TLS = (
    "end_to_end/test_tls.py::test_a_service_is_reached_over_tls_also_after_a_restart_of_the_agent"
)
_CORES = "end_to_end/test_cores.py::test_the_core_of_a_kernel_is_kept_and_the_oldest_go"
_FILE = "config/test_logs.py::test_the_file_is_rotated_at_its_size"
PROVEN = {
    "agent.rpc-listen-addr": "config/test_loading.py::test_tcp_can_be_left_out_altogether",
    "agent.rpc-insecure": "config/test_loading.py::"
    "test_an_insecure_address_is_accepted_with_a_warning",
    "agent.ledger-backup-interval": "end_to_end/test_ledger_faults.py::"
    "test_a_backup_is_made_by_itself_where_something_changed",
    "agent.pid-file": "config/test_pidfile.py::test_the_file_holds_the_pid_as_long_as_it_is_held",
    "agent.kernel-creation-concurrency": "kernels/test_turns.py::"
    "test_more_creates_than_turns_are_accepted_and_wait",
    "agent.scaling-group": _LIVE,
    "agent.region": _LIVE,
    "agent.instance-type": _LIVE,
    "agent.public-host": _LIVE,
    "agent.advertised-rpc-addr": _LIVE,
    "plugins.worker-memory": "agent/test_composition.py::"
    "test_the_host_is_told_what_its_workers_and_plugins_may_have",
    "plugins.deadline": "agent/test_composition.py::"
    "test_the_host_is_told_what_its_workers_and_plugins_may_have",
    "container.port-range": "end_to_end/test_ports.py::"
    "test_a_port_that_a_stranger_listens_on_is_passed_over_and_told",
    "container.port-reuse-cooldown-sec": "kernels/test_ports.py::"
    "test_a_port_that_is_given_back_rests_before_it_is_given_again",
    "container.ports-file": "end_to_end/test_ports.py::"
    "test_a_file_says_where_services_are_reached_for_whoever_reads_files",
    "container.service-tls-cert": _TLS,
    "container.service-tls-key": _TLS,
    "container.service-tls-idle-timeout": _TLS,
    "container.scratch-size": "agent/test_composition.py::"
    "test_a_size_of_scratch_reaches_the_kernels_where_there_are_limits",
    "resource.device-interval": "end_to_end/test_unplugging.py::"
    "test_a_kernel_keeps_a_device_that_is_pulled_out_also_over_a_restart",
    "resource.device-mask": "end_to_end/test_allocation.py::"
    "test_masked_devices_and_overcommitted_cores_mean_what_the_configuration_says",
    "resource.allocation-strategy": "agent/test_composition.py::"
    "test_requests_are_split_as_the_strategy_says",
    "logging.level": _LEVELS,
    "logging.pkg-ns": _LEVELS,
    "logging.drivers": "config/test_logs.py::"
    "test_each_driver_has_a_format_of_its_own_and_none_logs_nothing",
    "logging.console.colored": "config/test_logs.py::test_colours_are_used_when_asked_for",
    "logging.console.format": "config/test_logs.py::test_json_lines_are_objects",
    "logging.file.path": _FILE,
    "logging.file.filename": _FILE,
    "logging.file.backup-count": _FILE,
    "logging.file.rotation-size": _FILE,
    "logging.file.format": "config/test_logs.py::"
    "test_each_driver_has_a_format_of_its_own_and_none_logs_nothing",
    "debug.coredump.path": _CORES,
    "debug.coredump.backup-count": _CORES,
    "debug.coredump.size-limit": _CORES,
    "debug.enabled": _LIVE,
    "debug.asyncio": _LIVE,
    "debug.log-events": _LIVE,
}
"""For each other key the test that shows what it does."""


@pytest.mark.parametrize("key", CONSUMED)
def test_a_key_in_effect_reaches_what_consumes_it(tmp_path, key):
    value, consumed, wanted = CONSUMED[key]
    file = write(tmp_path, tuple(key.split(".")), value)
    before = load(write(tmp_path, ("debug", "enabled"), "false"), environ={})
    loaded = load(write(tmp_path, tuple(key.split(".")), value), environ={})
    assert consumed(loaded.config) == wanted, file
    assert loaded.warnings == ()
    if key != "agent.event-loop":
        assert consumed(before.config) != wanted


def test_every_key_in_effect_has_a_proof():
    assert {dotted(path) for path in of(Effect.NOW)} == CONSUMED.keys() | PROVEN.keys()


@pytest.mark.parametrize("where", sorted({*PROVEN.values()}))
def test_the_proofs_that_stand_elsewhere_are_there(where):
    file, _, name = where.partition("::")
    assert f"def {name}(" in (TESTS / file).read_text()


# ---- handed on ---------------------------------------------------------------------------------


@pytest.mark.parametrize("path", of(Effect.HANDED), ids=dotted)
def test_a_table_of_plugins_is_handed_on_as_it_is(tmp_path, path):
    file = tmp_path / "agent.toml"
    file.write_text(f"[{dotted(path)}.some-thing]\nx = [1]\n")
    config = load(file, environ={}).config
    tables = {**config.sections, "plugin": config.plugin}
    assert tables[dotted(path)] == {"some-thing": {"x": [1]}}


# ---- with a later feature ----------------------------------------------------------------------


@pytest.mark.parametrize("path", of(Effect.LATER), ids=dotted)
def test_a_key_of_a_later_feature_is_announced_and_its_value_is_judged(tmp_path, path):
    loaded = load(write(tmp_path, path, CLASSES[path].example), environ={})
    (warning,) = loaded.warnings
    assert re.search(r"\[[\w.-]+\] known but not yet in effect: ", warning)
    assert f"(with {feature_of(path)})" in warning
    with pytest.raises(InvalidConfig) as refused:
        load(write(tmp_path, path, "1979-05-27"), environ={})
    (fault,) = refused.value.details["faults"]
    assert fault["key"].startswith(dotted(path))
    assert fault["line"] == 2


# ---- refused -----------------------------------------------------------------------------------


@pytest.mark.parametrize("path", of(Effect.REFUSED), ids=dotted)
def test_a_refused_key_says_why_and_what_to_do_instead(tmp_path, path):
    with pytest.raises(InvalidConfig) as refused:
        load(write(tmp_path, path, '"something"'), environ={})
    (fault,) = refused.value.details["faults"]
    assert fault["key"] == dotted(path)
    assert REFUSED[path].why in fault["what"]
    assert fault["hint"] == REFUSED[path].instead
    for value in REFUSED[path].harmless:
        text = '""' if value == "" else str(value).replace("'", '"')
        text = f'"{text}"' if isinstance(value, str) and value else text
        assert load(write(tmp_path, path, text), environ={}).warnings == ()


def write(tmp_path: Path, path: tuple[str, ...], value: str) -> Path:
    file = tmp_path / "agent.toml"
    table = f"[{dotted(path[:-1])}]\n" if len(path) > 1 else "\n"
    file.write_text(f"{table}{path[-1]} = {value}\n")
    return file
