"""Services of kernels on a real node: started through the runner, reached from outside, ended."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from agent_core.contracts.errors import (
    Conflict,
    InvalidArgument,
    NotFound,
    ServiceFailed,
)
from agent_core.kernels.launching import WORK

from .conftest import notebook_path

WEB = [sys.executable, "-m", "http.server", "--bind", "{host}", "{ports[0]}"]
ECHO = """
import os, socket, sys
listeners = [socket.create_server((sys.argv[1], int(port))) for port in sys.argv[2:]]
open("server.pid", "w").write(str(os.getpid()))
while True:
    connection, _ = listeners[0].accept()
    with connection:
        connection.sendall(connection.recv(100))
"""
TCP = [sys.executable, "-c", ECHO, "{host}"]


@pytest.fixture
def define(node):
    """Write definition files for kernels that are created with the returned environment."""
    directory = node.root / "defs"
    directory.mkdir()

    def write(name, command, **table):
        (directory / f"{name}.json").write_text(json.dumps({"command": command, **table}))
        return {"BACKENDAI_SERVICE_DEFS": str(directory)}

    return write


def port_of(node, kernel, name):
    return next(r for r in node.json("kernels", "ports", kernel) if r["name"] == name)


def echoed(port):
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(b"over")
        return connection.recv(100)


def pid_of(node, kernel):
    return int(next(node.scratches.glob(f"**/{kernel}/{WORK}/server.pid")).read_text())


def is_alive(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_a_person_starts_lists_and_ends_services(node, define):
    node.start()
    define("echo", [*TCP, "{ports[0]}", "{ports[1]}"])
    env = define("web", WEB)
    kernel = node.create(env=env, ports="web:http:8080,echo:tcp:[9001,9002]")
    assert [row["running"] for row in node.json("services", "list", kernel)] == [False, False]
    started = node.agentctl("services", "start", kernel, "web")
    web = port_of(node, kernel, "web")
    where = f"port {web['host_port']} of the kernel, reached at {web['address']}"
    assert started == f"web: running on {where}\n"
    with urllib.request.urlopen(f"http://{web['address']}/", timeout=10) as answer:
        assert answer.status == 200
    echo = node.json("services", "start", kernel, "echo")
    assert echo["running"] is True
    assert len(echo["ports"]) == 2
    assert [echoed(port) for port in echo["ports"][:1]] == [b"over"]
    rows = node.json("services", "list", kernel)
    assert [(r["name"], r["running"], r["exit_code"]) for r in rows] == [
        ("web", True, None),
        ("echo", True, None),
    ]
    assert node.agentctl("services", "stop", kernel, "web") == "web: ended\n"
    assert node.agentctl("services", "stop", kernel, "web") == "web: ended\n"
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", web["host_port"]), timeout=10)
    pid = pid_of(node, kernel)
    node.destroy(kernel)
    assert not is_alive(pid)
    node.clean()


def test_services_outlive_the_agent_and_what_dies_is_told_with_its_exit_code(node, define):
    node.start()
    env = define("echo", [*TCP, "{ports[0]}"])
    kernel = node.create(env=env, ports="echo:tcp:9001")
    [port] = node.ask("start_service", kernel, "echo").ports
    node.end(signal.SIGKILL)
    assert echoed(port) == b"over"
    node.start()
    [row] = node.ask("list_services", kernel)
    assert row.running
    pid = pid_of(node, kernel)
    assert node.ask("start_service", kernel, "echo").running
    assert pid_of(node, kernel) == pid
    os.kill(pid, signal.SIGKILL)
    until(lambda: not node.ask("list_services", kernel)[0].running)
    table = node.agentctl("services", "list", kernel)
    assert table.split("\n")[1].split() == ["echo", "tcp", str(port), "False", "137"]
    node.destroy(kernel)


def test_what_goes_wrong_is_told_with_a_code_and_the_last_words(node, define):
    node.start()
    define("deaf", ["/bin/sh", "-c", "echo cannot find the licence; sleep 600"])
    define("broken", ["/bin/sh", "-c", "echo no such model >&2; exit 7"])
    env = define("hostile", ["{ports.__class__}"], prestart=[{"action": "eval"}])
    ports = "deaf:tcp:9001,broken:tcp:9002,hostile:tcp:9003,unheard:tcp:9004"
    kernel = node.create(env=env, ports=ports)
    with pytest.raises(ServiceFailed, match=r"did not listen on port .* within 0.5 s") as deaf:
        node.ask("start_service", kernel, "deaf", {"timeout": "0.5"})
    assert deaf.value.details["log"] == "cannot find the licence\n"
    said = node.agentctl("services", "start", kernel, "broken", code=1)
    assert "error[service-failed]: service 'broken' of kernel" in said
    assert "exit code 7" in said
    assert "no such model" in said
    with pytest.raises(ServiceFailed, match=r"prestart\[0\] has an action that is none of"):
        node.ask("start_service", kernel, "hostile")
    with pytest.raises(NotFound, match=r"no .*unheard.json"):
        node.ask("start_service", kernel, "unheard")
    with pytest.raises(NotFound, match="publishes no service 'nowhere'"):
        node.ask("start_service", kernel, "nowhere")
    with pytest.raises(InvalidArgument, match="is not a number of seconds"):
        node.ask("start_service", kernel, "deaf", {"timeout": "never"})
    with pytest.raises(InvalidArgument, match="it takes no option LD_PRELOAD"):
        node.ask("start_service", kernel, "deaf", {"LD_PRELOAD": "/x"})
    port = port_of(node, kernel, "deaf")["host_port"]
    with socket.create_server(("127.0.0.1", port)), pytest.raises(Conflict, match=str(port)):
        node.ask("start_service", kernel, "deaf")
    assert not any(row.running for row in node.ask("list_services", kernel))
    node.destroy(kernel)
    node.clean()


@pytest.mark.requires("sshd")
def test_a_person_logs_in_with_ssh(node, tmp_path):
    node.start()
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    kernel = node.create(ports="sshd", env={"GREETING": "hello"})
    public = key.with_suffix(".pub").read_text().strip()
    node.agentctl("services", "start", kernel, "sshd", "--option", f"AUTHORIZED_KEY={public}")
    row = port_of(node, kernel, "sshd")
    assert row["container_port"] == 2200
    said = ssh(key, row["host_port"], 'echo "$GREETING $BACKENDAI_KERNEL_ID"')
    assert (said.returncode, said.stdout) == (0, f"hello {kernel}\n"), said.stderr
    other = tmp_path / "other"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", other], check=True)
    assert ssh(other, row["host_port"], "true").returncode == 255
    node.destroy(kernel)
    node.clean()


@pytest.mark.requires("sshd")
def test_without_any_key_one_is_made_that_the_user_can_fetch(node, tmp_path):
    node.start()
    kernel = node.create(ports="sshd:tcp:2200")
    node.agentctl("services", "start", kernel, "sshd")
    key = tmp_path / "key"
    key.write_bytes(next(node.scratches.glob(f"**/{kernel}/{WORK}/id_container")).read_bytes())
    key.chmod(0o600)
    assert ssh(key, port_of(node, kernel, "sshd")["host_port"], "true").returncode == 0
    node.destroy(kernel)


@pytest.mark.requires("notebook")
@pytest.mark.timeout(180)
def test_a_real_notebook_and_a_real_board_are_started_by_their_names_alone(node):
    node.start()
    env = {"PATH": notebook_path()}
    kernel = node.create(env=env, ports="jupyter:http:8080,tensorboard:http:6006")
    options = {"JUPYTER_TOKEN": "s3cret", "timeout": "60"}
    node.ask("start_service", kernel, "jupyter", options)
    address = port_of(node, kernel, "jupyter")["address"]
    with urllib.request.urlopen(f"http://{address}/api/status?token=s3cret", timeout=30) as answer:
        assert "kernels" in json.load(answer)
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(f"http://{address}/api/status", timeout=30)
    node.ask("start_service", kernel, "tensorboard", {"timeout": "90"})
    address = port_of(node, kernel, "tensorboard")["address"]
    with urllib.request.urlopen(f"http://{address}/data/environment", timeout=30) as answer:
        assert answer.status == 200
    for name in ("jupyter", "tensorboard"):
        node.ask("shutdown_service", kernel, name)
    assert not any(row.running for row in node.ask("list_services", kernel))
    node.destroy(kernel)
    node.clean()


def ssh(key, port, command):
    options = {
        "StrictHostKeyChecking": "no",
        "UserKnownHostsFile": "/dev/null",
        "BatchMode": "yes",
        "IdentitiesOnly": "yes",
        "ConnectTimeout": "10",
    }
    flags = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    words = ["ssh", "-F", "/dev/null", "-i", key, "-p", str(port), *flags, "127.0.0.1", command]
    return subprocess.run(words, capture_output=True, text=True, timeout=30, check=False)


def until(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
