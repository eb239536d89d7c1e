from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from agent_core.config.loader import Loaded, load
from agent_core.config.paths import default_agent_id, default_scratch_root
from agent_core.contracts.errors import InvalidConfig

Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write_file(text: str) -> Path:
        path = tmp_path / "agent.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write_file


def faults_of(path: Path | None, environ: dict[str, str] | None = None) -> list[dict[str, object]]:
    with pytest.raises(InvalidConfig) as caught:
        load(path, environ=environ or {})
    faults = caught.value.details["faults"]
    assert all(str(fault["what"]) in caught.value.message for fault in faults)
    return faults


def read(path: Path, **environ: str) -> Loaded:
    return load(path, environ=environ)


def test_without_any_file_the_embedded_defaults_stand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    loaded = load(None, environ={})
    assert loaded.path is None
    assert loaded.warnings == ()
    assert loaded.config.agent.id == default_agent_id()
    assert loaded.config.agent.backend == "process"
    assert str(loaded.config.agent.rpc_listen_addr) == "127.0.0.1:6011"
    assert loaded.config.container.scratch_root == default_scratch_root()
    assert default_scratch_root(0) == Path("/tmp/backend.ai/scratches")
    assert default_scratch_root(1000) == Path("/tmp/backend.ai-1000/scratches")
    assert loaded.config.selection.allow_devices is None


def test_the_file_of_the_installation_guide_loads_and_its_pending_keys_are_announced(
    write: Write, tmp_path: Path
) -> None:
    path = write(
        """
[etcd]
namespace = "local"
addr = { host = "bai-m1", port = 8120 }
[agent]
mode = "docker"
rpc-listen-addr = { host = "10.20.30.10", port = 6001 }
scaling-group = "blue"
pid-file = "./agent.pid"
event-loop = "uvloop"
[container]
port-range = [30000, 31000]
scratch-type = "hostdir"
scratch-root = "./scratches"
scratch-size = "1G"
[logging]
level = "info"
drivers = ["console", "file"]
[logging.console]
colored = true
format = "verbose"
[logging.file]
path = "./logs"
rotation-size = "10M"
[logging.pkg-ns]
"" = "WARNING"
"ai.backend" = "INFO"
[resource]
reserved-cpu = 2
reserved-mem = "1G"
reserved-disk = "8G"
[debug.coredump]
enabled = false
"""
    )
    loaded = read(path)
    config = loaded.config
    assert config.agent.backend == "docker"
    assert str(config.agent.rpc_listen_addr) == "10.20.30.10:6001"
    assert config.agent.scaling_group == "blue"
    assert config.agent.pid_file == tmp_path / "agent.pid"
    assert config.container.scratch_root == tmp_path / "scratches"
    assert config.container.scratch_size == 1 << 30
    assert config.container.port_range == (30000, 31000)
    assert config.resource.reserved_mem == 1 << 30
    assert config.resource.reserved_cpu == 2
    assert config.logging.level == "INFO"
    assert config.logging.file.path == tmp_path / "logs"
    assert config.logging.pkg_ns == {"": "WARNING", "ai.backend": "INFO"}
    assert loaded.warnings == (
        f"{path}:2: [etcd] known but not yet in effect: addr, namespace (with joining a cluster)",
        f"{path}:31: [resource] known but not yet in effect: reserved-disk (with storage)",
    )


def test_the_file_of_the_dummy_guide_loads(write: Write) -> None:
    path = write(
        """
[agent]
mode = "dummy"
[agent.intrinsic.cpu]
core-indexes = [0, 1]
[agent.delay]
scan-image = 0.1
[agent.image.already-have]
'cr.backend.ai/multiarch/python:3.9-ubuntu20.04' = ''
[kernel-creation-ctx.delay]
spawn = 0.1
[kernel]
use-fake-code-runner = true
[kernel.delay]
commit = 10.0
"""
    )
    loaded = read(path)
    assert loaded.config.agent.backend == "dummy"
    assert loaded.config.sections == {
        "agent.intrinsic": {"cpu": {"core-indexes": [0, 1]}},
        "agent.delay": {"scan-image": 0.1},
        "agent.image": {"already-have": {"cr.backend.ai/multiarch/python:3.9-ubuntu20.04": ""}},
        "kernel": {"use-fake-code-runner": True, "delay": {"commit": 10.0}},
        "kernel-creation-ctx": {"delay": {"spawn": 0.1}},
    }
    assert loaded.warnings == ()


def test_every_fault_is_reported_at_once_with_its_line_and_a_suggestion(write: Write) -> None:
    path = write(
        """[agnet]
id = "x"
[agent]
backend = "docker"
mode = "dummy"
id = "../x"
allow-compute-plugins = ["cuda", 3]
rpc-listen-addr = { host = "x", prot = 1, port = 99999 }
[container]
scratch-size = "1Q"
scratch-tpye = "x"
[logging]
level = "INF"
[logging.console]
format = "jsn"
[resource]
reserved-cpu = -1
[etcd]
adr = "x"
[plugin]
mock = 3
"""
    )
    found = {(f["line"], f["key"]): f for f in faults_of(path)}
    assert set(found) == {
        (1, "agnet"),
        (5, "agent.mode"),
        (6, "agent.id"),
        (7, "agent.allow-compute-plugins[1]"),
        (8, "agent.rpc-listen-addr.prot"),
        (8, "agent.rpc-listen-addr.port"),
        (10, "container.scratch-size"),
        (11, "container.scratch-tpye"),
        (13, "logging.level"),
        (15, "logging.console.format"),
        (17, "resource.reserved-cpu"),
        (19, "etcd.adr"),
        (21, "plugin.mock"),
    }
    assert {fault["source"] for fault in found.values()} == {str(path)}
    hints = {key: fault["hint"] for (_, key), fault in found.items()}
    assert hints["agnet"] == "did you mean 'agent'?"
    assert hints["agent.rpc-listen-addr.prot"] == "did you mean 'port'?"
    assert hints["container.scratch-tpye"] == "did you mean 'scratch-type'?"
    assert hints["logging.level"] == "did you mean 'INFO'?"
    assert hints["logging.console.format"] == "did you mean 'json'?"
    assert hints["etcd.adr"] == "did you mean 'addr'?"
    assert "512M" in str(hints["container.scratch-size"])


@pytest.mark.parametrize("key", ["port-range", "stats-type"])
def test_a_known_key_in_the_wrong_table_is_told_where_it_belongs(write: Write, key: str) -> None:
    (fault,) = faults_of(write(f"[agent]\n{key} = [1, 2]\n"))
    assert fault["what"] == "is an unknown key"
    assert "[container]" in str(fault["hint"])


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("agent = 3", "agent"),
        ("[agent]\nid = 5", "agent.id"),
        ('[agent]\nid = ""', "agent.id"),
        ('[agent]\nid = "-x"', "agent.id"),
        ('[agent]\nid = "a\\n"', "agent.id"),
        ('[agent]\nrpc-listen-addr = "nowhere"', "agent.rpc-listen-addr"),
        ('[agent]\nrpc-listen-addr = "h:99999"', "agent.rpc-listen-addr.port"),
        ('[agent]\npid-file = ""', "agent.pid-file"),
        ("[plugins]\ndeadline = 0", "plugins.deadline"),
        ('[plugins]\ndeadline = "soon"', "plugins.deadline"),
        ("[plugins]\nallow = 'cuda'", "plugins.allow"),
        ("[container]\nscratch-size = -1", "container.scratch-size"),
        ('[container]\nscratch-type = ""', "container.scratch-type"),
        ('[logging]\ndrivers = ["syslog"]', "logging.drivers[0]"),
        ('[logging.file]\nfilename = "a/b"', "logging.file.filename"),
        ('[logging.pkg-ns]\naiohttp = "LOUD"', "logging.pkg-ns.aiohttp"),
        ("[resource]\nreserved-cpu = 0.5", "resource.reserved-cpu"),
        ('[resource]\nallocation-strategy = "random"', "resource.allocation-strategy"),
    ],
)
def test_a_value_out_of_bounds_is_one_fault_at_its_key(write: Write, text: str, key: str) -> None:
    (fault,) = faults_of(write(text))
    assert fault["key"] == key
    assert fault["line"] == text.count("\n") + 1


@pytest.mark.parametrize("alias", ["mode", "backend"])
def test_mode_is_another_spelling_of_backend(write: Write, alias: str) -> None:
    loaded = read(write(f'[agent]\n{alias} = "dummy"\n'))
    assert loaded.config.agent.backend == "dummy"
    assert loaded.warnings == ()


def test_both_spellings_with_one_value_are_accepted(write: Write) -> None:
    path = write('[agent]\nmode = "dummy"\nbackend = "dummy"\n')
    assert read(path).config.agent.backend == "dummy"


def test_the_misspelt_allow_list_of_the_mock_guide_works_with_a_warning(write: Write) -> None:
    loaded = read(write('[agent]\nallowed-compute-plugins = ["mock"]\n'))
    assert loaded.config.selection.allow_devices == ("mock",)
    assert "agent.allowed-compute-plugins" in loaded.warnings[0]
    assert "allow-compute-plugins" in loaded.warnings[0]


def test_an_absent_allow_list_differs_from_an_empty_one(write: Write) -> None:
    assert read(write("[agent]\n")).config.selection.allow_devices is None
    assert read(write("[agent]\nallow-compute-plugins = []\n")).config.selection.allow_devices == ()


@pytest.mark.parametrize("value", ['"none"', "false"])
def test_tcp_can_be_left_out_altogether(write: Write, value: str) -> None:
    assert read(write(f"[agent]\nrpc-listen-addr = {value}\n")).config.agent.rpc_listen_addr is None


def test_an_insecure_address_is_accepted_with_a_warning(write: Write) -> None:
    loaded = read(write('[agent]\nrpc-insecure = true\nrpc-listen-addr = "[::1]:0"\n'))
    assert str(loaded.config.agent.rpc_listen_addr) == "[::1]:0"
    assert "rpc-insecure" in loaded.warnings[0]


@pytest.mark.parametrize(
    ("text", "seconds"), [("10", 10), ('"500ms"', 0.5), ('"2m"', 120), ("1.5", 1.5)]
)
def test_durations_are_seconds_or_have_a_unit(write: Write, text: str, seconds: float) -> None:
    loaded = read(write(f"[kernel-lifecycles]\ninit-timeout = {text}\n"))
    assert loaded.config.kernel_lifecycles.init_timeout == seconds


def test_plugin_tables_are_free(write: Write) -> None:
    config = read(write("[plugin.mock]\nx_y = [1]\n[plugin.mock.deep]\nz = true\n")).config
    assert config.plugin_table("mock") == {"x_y": [1], "deep": {"z": True}}
    assert config.plugin_table("cuda") == {}


def test_the_command_line_goes_over_the_environment_and_that_over_the_file(write: Write) -> None:
    path = write('[agent]\nid = "file"\nbackend = "file"\nscaling-group = "file"\n')
    environ = {"AGENT_AGENT__ID": "variable", "AGENT_AGENT__MODE": "variable"}
    loaded = load(path, {"agent.id": "line"}, environ=environ)
    agent = loaded.config.agent
    assert (agent.id, agent.backend, agent.scaling_group) == ("line", "variable", "file")
    assert loaded.origins["agent.id"] == "command line"
    assert loaded.origins["agent.backend"] == "$AGENT_AGENT__MODE"
    assert loaded.origins["agent.scaling-group"] == str(path)


def test_variables_set_every_kind_of_key(write: Write) -> None:
    loaded = read(
        write('[agent]\nrpc-listen-addr = "10.0.0.1:1"\n'),
        AGENT_AGENT__ALLOW_COMPUTE_PLUGINS="cuda, mock",
        AGENT_PLUGINS__BLOCK='["a"]',
        AGENT_DEBUG__ENABLED="true",
        AGENT_KERNEL_LIFECYCLES__INIT_TIMEOUT="5s",
        AGENT_CONTAINER__SCRATCH_SIZE="2G",
        AGENT_LOGGING__PKG_NS__AIOHTTP="info",
        AGENT_LOGGING__CONSOLE__FORMAT="json",
        AGENT_PLUGIN__PROCESS__SOME_KEY="[1]",
        AGENT_PLUGIN__PROCESS__WORD="word",
        BACKEND_AGENT_PORT="7000",
        AGENT_ETCD__ADDR="host:1",
        AGENT_NAME="what a build service sets",
        container="podman",
    )
    config = loaded.config
    assert config.agent.allow_compute_plugins == ("cuda", "mock")
    assert config.plugins.block == ("a",)
    assert config.debug.enabled
    assert config.kernel_lifecycles.init_timeout == 5
    assert config.container.scratch_size == 2 << 30
    assert config.logging.pkg_ns == {"aiohttp": "INFO"}
    assert config.logging.console.format == "json"
    assert config.plugin == {"process": {"some-key": [1], "word": "word"}}
    assert str(config.agent.rpc_listen_addr) == "10.0.0.1:7000"
    assert loaded.warnings == (
        "$AGENT_ETCD__ADDR: [etcd] known but not yet in effect: addr (with joining a cluster)",
    )


def test_a_variable_may_refine_an_address_that_another_sets() -> None:
    environ = {
        "AGENT_AGENT__RPC_LISTEN_ADDR": "10.0.0.1:1",
        "AGENT_AGENT__RPC_LISTEN_ADDR__PORT": "2",
    }
    assert str(load(None, environ=environ).config.agent.rpc_listen_addr) == "10.0.0.1:2"


@pytest.mark.parametrize(
    ("name", "value", "key"),
    [
        ("AGENT_AGENT__BACKED", "x", "agent.backed"),
        ("AGENT_AGNET__ID", "x", "agnet"),
        ("AGENT_LOGGING__LEVEL", "loud", "logging.level"),
        ("AGENT_AGENT__ALLOW_COMPUTE_PLUGINS", "3", "agent.allow-compute-plugins"),
        ("BACKEND_AGENT_PORT", "many", "agent.rpc-listen-addr.port"),
    ],
)
def test_a_fault_in_a_variable_names_the_variable(name: str, value: str, key: str) -> None:
    (fault,) = faults_of(None, {name: value})
    assert (fault["source"], fault["line"], fault["key"]) == (f"${name}", None, key)


def test_two_variables_that_contradict_each_other_are_a_fault() -> None:
    environ = {"AGENT_AGENT__MODE": "a", "AGENT_AGENT__BACKEND": "b"}
    (fault,) = faults_of(None, environ)
    assert "contradicts" in str(fault["what"])


def test_relative_paths_start_where_their_source_is(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    path = write('[agent]\nvar-base-path = "var"\nipc-base-path = "~/run"\n')
    monkeypatch.setenv("HOME", "/home/somebody")
    agent = load(path, {"agent.pid-file": "a.pid"}, environ={}).config.agent
    assert agent.var_base_path == tmp_path / "var"
    assert agent.ipc_base_path == Path("/home/somebody/run")
    assert agent.pid_file == here / "a.pid"


def test_the_configuration_renders_as_plain_data_that_loads_again(write: Write) -> None:
    config = read(write('[agent]\nid = "a"\nmode = "dummy"\n[plugin.x]\ny = 1\n')).config
    assert type(config).model_validate(config.rendered()) == config
    assert config.rendered()["agent"]["rpc-listen-addr"] == {"host": "127.0.0.1", "port": 6011}


def test_secrets_of_plugins_are_masked_where_the_configuration_is_shown(write: Write) -> None:
    config = read(write('[plugin.x]\nname = "n"\n[plugin.x.login]\nPassword = "p"\n')).config
    assert config.rendered()["plugin"] == {"x": {"name": "n", "login": {"Password": "***"}}}
    assert config.plugin_table("x")["login"]["Password"] == "p"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[agent]\nallow-compute-plugins = 'cpu'\n", "should be a list, not 'cpu'"),
        ("[agent]\nbackend = 3\n", "should be a text, not 3"),
        ("[agent]\nrpc-insecure = 'perhaps'\n", "should be true or false, not 'perhaps'"),
        ("[resource]\nreserved-cpu = 'two'\n", "should be a whole number, not 'two'"),
        ("[resource]\nreserved-cpu = 1.5\n", "should be a whole number, not 1.5"),
    ],
)
def test_a_fault_is_told_in_words_for_operators(tmp_path, text, said):
    path = tmp_path / "agent.toml"
    path.write_text(text)

    with pytest.raises(InvalidConfig) as refused:
        load(path, environ={})

    assert said in refused.value.message
    assert "config check" in (refused.value.hint or "")


# ---- ports that kernels publish theirs on ------------------------------------------------------


@pytest.mark.parametrize("text", ["[4000, 4010]", '"4000-4010"', '["4000", "4010"]'])
def test_a_range_of_ports_has_several_spellings(write: Write, text: str) -> None:
    config = read(write(f"[container]\nport-range = {text}\n")).config
    assert config.container.port_range == (4000, 4010)


@pytest.mark.parametrize("name", ["BACKEND_CONTAINER_PORT_RANGE", "AGENT_CONTAINER__PORT_RANGE"])
@pytest.mark.parametrize("text", ["4000-4010", "4000,4010", "[4000, 4010]"])
def test_a_range_of_ports_comes_from_the_environment_too(
    write: Write, name: str, text: str
) -> None:
    config = read(write(""), **{name: text}).config
    assert config.container.port_range == (4000, 4010)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("[4010, 4000]", "is reversed: 4010 comes after 4000"),
        ("[0, 4000]", "greater than or equal to 1"),
        ("[4000, 65536]", "less than or equal to 65535"),
        ("[4000]", "[4000] is not two ports"),
        ("[4000, 4001, 4002]", "is not two ports"),
        ('"4000"', "'4000' is not two ports"),
        ("4000", "4000 is not two ports"),
    ],
)
def test_a_range_that_is_none_is_a_fault(write: Write, text: str, part: str) -> None:
    fault = faults_of(write(f"[container]\nport-range = {text}\n"))[0]
    assert str(fault["key"]).startswith("container.port-range")
    assert part in str(fault["what"])


def test_the_cooldown_may_be_none_but_not_negative(write: Write) -> None:
    config = read(write("[container]\nport-reuse-cooldown-sec = 0\n")).config
    assert config.container.port_reuse_cooldown_sec == 0
    (fault,) = faults_of(write("[container]\nport-reuse-cooldown-sec = -1\n"))
    assert "0 for none" in str(fault["hint"])


def test_the_older_name_of_the_address_is_known(write: Write) -> None:
    config = read(write('[container]\nkernel-host = "0.0.0.0"\n')).config
    assert config.container.bind_host == "0.0.0.0"
    (fault,) = faults_of(write('[container]\nbind-host = "http://here/"\n'))
    assert "host name" in str(fault["hint"])


def test_ports_that_only_root_can_have_are_told(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write("[container]\nport-range = [1000, 2000]\n")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert read(path).warnings == ()
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    (warning,) = read(path).warnings
    assert "only root can listen on ports below 1024" in warning


def test_a_range_that_has_the_port_of_the_rpc_in_it_is_told(write: Write) -> None:
    (warning,) = read(write("[container]\nport-range = [6000, 7000]\n")).warnings
    assert "rpc-listen-addr, 6011" in warning
    text = '[agent]\nrpc-listen-addr = "none"\n[container]\nport-range = [6000, 7000]\n'
    assert read(write(text)).warnings == ()


def test_a_file_of_the_backend_beside_the_file_is_laid_over_it(
    write: Write, tmp_path: Path
) -> None:
    path = write('[agent]\nbackend = "dummy"\n[kernel.delay]\ncommit = 10.0\n[agent.delay]\n')
    beside = tmp_path / "agent.dummy.toml"
    beside.write_text("[kernel.delay]\ncommit = 5.0\n[agent.resource.cpu]\nnum-core = 4\n")
    loaded = read(path)
    assert loaded.config.kernel == {"delay": {"commit": 5.0}}
    assert loaded.config.agent.resource == {"cpu": {"num-core": 4}}
    assert loaded.origins["kernel.delay.commit"] == str(beside)
    path.write_text('[agent]\nbackend = "process"\n')
    assert read(path).config.kernel == {}
