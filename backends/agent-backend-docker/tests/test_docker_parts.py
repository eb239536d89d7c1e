"""What the backend computes without an engine."""

from __future__ import annotations

import base64
import json
import struct
from dataclasses import asdict, replace

import pytest
from agent_backend_docker import cdi
from agent_backend_docker.arguments import create_body, spec_digest
from agent_backend_docker.backend import DockerBackend
from agent_backend_docker.credentials import header_for
from agent_backend_docker.declaration import INFO
from agent_backend_docker.logs import Unframing
from agent_backend_docker.observation import exit_of, seconds_of
from agent_backend_docker.references import read_reference
from agent_backend_docker.settings import Settings, read_settings
from hypothesis import given
from hypothesis import strategies as st

from agent_core.contracts.backend import ContainerSpec, Paths
from agent_core.contracts.edits import (
    ContainerEdits,
    DeviceNode,
    DeviceRequest,
    Mount,
    Permission,
)
from agent_core.contracts.errors import InvalidArgument, InvalidConfig, Unsupported

SPEC = ContainerSpec("c", "o", "busybox:latest", ("/bin/sh", "-c", "true"), {"A": "1"}, "/")


# ---- names of images ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "repository", "version", "registry"),
    [
        ("busybox", "busybox", "latest", "docker.io"),
        ("lib/box:1.2", "lib/box", "1.2", "docker.io"),
        ("localhost/box", "localhost/box", "latest", "localhost"),
        ("r.example:5000/a/b:t", "r.example:5000/a/b", "t", "r.example:5000"),
        ("127.0.0.1:5000/a", "127.0.0.1:5000/a", "latest", "127.0.0.1:5000"),
        ("a@sha256:" + "0" * 64, "a", "sha256:" + "0" * 64, "docker.io"),
        ("a:t@sha256:" + "0" * 64, "a", "sha256:" + "0" * 64, "docker.io"),
        ("a__b/c-d.e", "a__b/c-d.e", "latest", "docker.io"),
    ],
)
def test_names_are_read_as_registries_do(name, repository, version, registry):
    found = read_reference(name)
    assert (found.repository, found.version, found.registry) == (repository, version, registry)
    assert read_reference(str(found)) == replace(found, tag="" if found.digest else found.tag)


@given(st.text(max_size=60))
def test_no_text_at_all_becomes_a_path_of_the_engine(text):
    try:
        found = str(read_reference(text))
    except InvalidArgument:
        return
    assert not {*found} & {*"?#% \n\t\\"}
    assert ".." not in found.split("/")


# ---- streams of output -------------------------------------------------------------------------


@given(
    st.lists(st.tuples(st.sampled_from([1, 2]), st.binary(max_size=50)), max_size=8),
    st.lists(st.integers(1, 40), max_size=20),
)
def test_frames_are_taken_apart_wherever_the_stream_is_cut(frames, cuts):
    data = b"".join(struct.pack(">BxxxI", kind, len(text)) + text for kind, text in frames)
    reader, read = Unframing(), []
    for cut in cuts:
        read += reader.feed(data[:cut])
        data = data[cut:]
    read += reader.feed(data)
    assert b"".join(read) == b"".join(text for _, text in frames)


# ---- what the engine is asked for --------------------------------------------------------------


def body(edits=ContainerEdits(), settings=Settings(), **changes):  # noqa: B008 - both are frozen
    return create_body(replace(SPEC, edits=edits, **changes), settings)


def test_memory_has_no_swap_beside_it_unless_that_was_granted():
    host = body(ContainerEdits(limits={"memory": 100}))["HostConfig"]
    assert (host["Memory"], host["MemorySwap"]) == (100, 100)
    host = body(ContainerEdits(limits={"memory": 100, "swap": 50}))["HostConfig"]
    assert host["MemorySwap"] == 150


def test_nothing_of_a_users_environment_changes_what_is_granted():
    env = {"LD_PRELOAD": "/mine.so", "NVIDIA_VISIBLE_DEVICES": "all"}
    plain, hostile = body(), body(env=env)
    labels = {"Labels": None, "Env": None}
    assert {**plain, **labels} == {**hostile, **labels}


def test_plugins_libraries_come_before_the_users():
    made = body(ContainerEdits(preload=("/a.so", "/b.so")), env={"LD_PRELOAD": "/mine.so"})
    assert made["Env"] == ["LD_PRELOAD=/a.so:/b.so:/mine.so"]


def test_device_requests_and_mounts_are_spelled_as_the_engine_reads_them():
    edits = ContainerEdits(
        device_requests=(DeviceRequest("nvidia", ("GPU-1",), ("compute", "utility")),),
        mounts=(Mount("/a", "/b"), Mount("/c", "/d", Permission.RW_DELETE)),
    )
    host = body(edits)["HostConfig"]
    assert host["DeviceRequests"] == [
        {"Driver": "nvidia", "DeviceIDs": ["GPU-1"], "Capabilities": [["compute", "utility"]]}
    ]
    assert [mount["ReadOnly"] for mount in host["Mounts"]] == [True, False]


def test_calls_are_added_to_the_configured_profile_and_refused_without_one():
    edits = ContainerEdits(syscalls=("mbind",))
    with pytest.raises(Unsupported, match="mbind"):
        body(edits)
    profile = {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"names": ["read"]}]}
    (_, option) = body(edits, Settings(seccomp=profile))["HostConfig"]["SecurityOpt"]
    given_to = json.loads(option.removeprefix("seccomp="))
    assert given_to["syscalls"][-1] == {"names": ["mbind"], "action": "SCMP_ACT_ALLOW"}
    assert given_to["syscalls"][0] == {"names": ["read"]}


def test_limits_that_nobody_knows_are_refused():
    with pytest.raises(Unsupported, match="bananas"):
        body(ContainerEdits(limits={"bananas": 1}))


def test_another_specification_has_another_digest():
    digests = {
        spec_digest(changed)
        for changed in (
            SPEC,
            replace(SPEC, argv=("/bin/true",)),
            replace(SPEC, env={"A": "2"}),
            replace(SPEC, record={"a": 1}),
            replace(SPEC, edits=ContainerEdits(limits={"memory": 1})),
        )
    }
    assert len(digests) == 5
    assert spec_digest(SPEC) == spec_digest(replace(SPEC, env={"A": "1"}))


def test_directories_are_at_the_same_places_in_every_container():
    seen = DockerBackend().paths(Paths("/s", "/s/config", "", "/r"))
    assert (seen.scratch, seen.config, seen.runner) == ("/home", "/home/config", "")


# ---- what the engine says ----------------------------------------------------------------------


def test_times_of_the_engine_are_read_to_the_microsecond():
    assert seconds_of("1970-01-01T00:00:01.123456789Z") == pytest.approx(1.123456)
    assert seconds_of("1970-01-01T01:00:01+01:00") == 1
    assert seconds_of("0001-01-01T00:00:00Z") is None
    assert seconds_of("yesterday") is None


def test_an_exit_code_tells_the_signal_where_there_was_one():
    state = {"Status": "exited", "StartedAt": "2026-01-01T00:00:00Z", "ExitCode": 137}
    found = exit_of({**state, "OOMKilled": True})
    assert found is not None
    assert (found.code, found.signal, found.oom) == (137, 9, True)
    assert exit_of({**state, "Status": "running"}) is None
    never = exit_of({**state, "Status": "exited", "StartedAt": "0001-01-01T00:00:00Z"})
    assert never is None


# ---- configuration -----------------------------------------------------------------------------


def test_every_fault_of_the_configuration_is_named_at_once(tmp_path):
    (tmp_path / "profile.json").write_text("[]")
    with pytest.raises(InvalidConfig) as refused:
        read_settings(
            {
                "seccomp-profile": str(tmp_path / "profile.json"),
                "registries": {"r": {"username": "u"}},
                "block-io": {"sda": {}},
            }
        )
    assert len(refused.value.details["faults"]) == 3


def test_the_socket_is_the_configured_one_or_that_of_the_environment(monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", "unix:///tmp/d.sock")
    assert read_settings({}).socket == "/tmp/d.sock"
    assert read_settings({"host": "unix:///x.sock"}).socket == "/x.sock"
    assert read_settings({"host": "/y.sock"}).socket == "/y.sock"
    monkeypatch.setenv("DOCKER_HOST", "tcp://elsewhere:2375")
    assert "elsewhere" not in read_settings({}).socket


def test_credentials_are_those_of_the_registry_and_of_no_other(monkeypatch, tmp_path):
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    kept = {"auths": {"https://k": {"auth": base64.b64encode(b"u:p:q").decode()}, "bad": {}}}
    (tmp_path / "config.json").write_text(json.dumps(kept))
    configured = {"r:5000": {"username": "a", "password": "b"}}

    def said(registry):
        header = header_for(registry, configured)
        text = header.get("X-Registry-Auth")
        return json.loads(base64.urlsafe_b64decode(text)) if text else None

    assert said("r:5000") == {"username": "a", "password": "b", "serveraddress": "r:5000"}
    assert said("k") == {"username": "u", "password": "p:q", "serveraddress": "k"}
    assert said("bad") is None
    assert said("other") is None
    (tmp_path / "config.json").write_text("no json")
    assert said("k") is None


# ---- CDI ---------------------------------------------------------------------------------------

ACME = {
    "cdiVersion": "0.6.0",
    "kind": "acme.com/card",
    "devices": [
        {"name": "0", "containerEdits": {"deviceNodes": [{"path": "/dev/acme0"}], "env": ["N=0"]}},
        {"name": "h", "containerEdits": {"hooks": [{"hookName": "createContainer"}]}},
    ],
    "containerEdits": {
        "mounts": [{"hostPath": "/usr/lib/a.so", "containerPath": "/a.so", "options": ["ro"]}]
    },
}


def test_a_cdi_device_is_what_its_file_says(tmp_path):
    (tmp_path / "acme.json").write_text(json.dumps(ACME))
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "other.yaml").write_text(
        "kind: other.com/x\ndevices:\n- name: '1'\n  containerEdits:\n    env: [Y=1]\n"
    )
    found = cdi.resolve(["acme.com/card=0", "other.com/x=1"], [str(tmp_path)])
    assert found.device_nodes == (DeviceNode("/dev/acme0", "/dev/acme0", "rwm"),)
    assert found.mounts == (Mount("/usr/lib/a.so", "/a.so", Permission.RO),)
    assert found.env == {"N": "0", "Y": "1"}


@pytest.mark.parametrize("name", ["acme.com/card=h", "acme.com/card=9", "no.com/card=0", "x"])
def test_a_cdi_device_that_cannot_be_had_is_refused(tmp_path, name):
    (tmp_path / "acme.json").write_text(json.dumps(ACME))
    with pytest.raises(Unsupported):
        cdi.resolve([name], [str(tmp_path)])


def test_what_is_not_configured_is_what_the_schema_says_is_the_default():
    properties = INFO.config_schema["properties"]
    defaults = {key: entry["default"] for key, entry in properties.items() if "default" in entry}
    assert {*defaults} <= {name.replace("_", "-") for name in asdict(Settings())}
    for key, default in defaults.items():
        own = getattr(Settings(), key.replace("-", "_"))
        assert (list(own) if isinstance(own, tuple) else own) == default, key
