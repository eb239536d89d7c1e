"""Model services on a real node: kept running by the kernel's runner, and shown to people."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import urllib.request

import pytest

from agent_core.client import AgentClient
from agent_core.contracts.errors import InvalidSpec, ServiceFailed
from agent_core.kernels.launching import WORK

SERVER = """
import http.server, os, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        code = int(open("code").read()) if os.path.exists("code") else 200
        self.send_response(code if self.path == "/health" else 404)
        self.end_headers()
    def log_message(self, *args): pass
open("pid", "w").write(str(os.getpid()))
server = http.server.HTTPServer((sys.argv[1], int(sys.argv[2])), Handler)
print("serving", flush=True)
server.serve_forever()
"""
LINE = f'exec {sys.executable} "$HOME/serve.py" "$BACKENDAI_SERVICE_HOST" "$BACKENDAI_PORT_LLM"'
WAIT = 30.0


def check(**changes):
    usual = {"path": "/health", "max_retries": 2, "max_wait_time": 5, "interval": 0.1}
    return {**usual, **changes}


def model(name="llm", port=8000, line=LINE, **changes):
    actions = [{"action": "write_file", "args": {"filename": "serve.py", "body": SERVER}}]
    service = {"pre_start_actions": actions, "start_command": line, "port": port}
    return {"name": name, "service": {**service, "health_check": check(**changes)}}


def definition(*models):
    return {"models": [*models]}


def status_of(node, kernel, name="llm"):
    rows = {row.name: row for row in node.ask("list_services", kernel)}
    return rows[name].model


def until(node, kernel, status, name="llm"):
    """Wait until a model has a status: follow its events, and look at the list before."""

    async def follow():
        async with asyncio.timeout(WAIT), AgentClient(str(node.socket)) as agent:
            events = agent.watch_events(kernel, follow=True, progress=True)
            async with contextlib.aclosing(events) as items:
                while True:
                    rows = {row.name: row for row in await agent.list_services(kernel)}
                    if rows[name].model.status == status:
                        return rows[name].model
                    async for item in items:
                        if item.name == "model-service.status" and item.data["model"] == name:
                            break

    return asyncio.run(follow())


def scratch_of(node, kernel):
    return next(node.scratches.glob(f"**/{kernel}/{WORK}"))


def answer_with(node, kernel, code):
    fresh = scratch_of(node, kernel) / "fresh"
    fresh.write_text(str(code))
    fresh.rename(fresh.with_name("code"))


def pid_of(node, kernel):
    return int((scratch_of(node, kernel) / "pid").read_text())


def test_a_person_serves_models_and_sees_how_they_are(node, tmp_path):
    node.start()
    deaf = model("deaf", 8001, "echo no licence; exec sleep 600", max_wait_time=0.2)
    dead = model("dead", 8002, "echo no such model >&2; exit 7", max_retries=1)
    path = tmp_path / "models.json"
    path.write_text(json.dumps(definition(model(), deaf, dead)))
    create = ("kernels", "create", "--image", "python", "--kernel-id", "m")
    assert node.agentctl(*create, "--model-definition", str(path)) == "m\n"
    until(node, "m", "healthy")
    until(node, "m", "unhealthy", "deaf")
    until(node, "m", "failed", "dead")
    ports = {row["name"]: row for row in node.json("kernels", "ports", "m")}
    assert [ports[name]["container_port"] for name in ("llm", "deaf", "dead")] == [8000, 8001, 8002]
    with urllib.request.urlopen(f"http://{ports['llm']['address']}/health", timeout=10) as answer:
        assert answer.status == 200
    inside = {name: str(row["host_port"]) for name, row in ports.items()}
    table = [line.split() for line in node.agentctl("services", "list", "m").splitlines()]
    assert table == [
        ["NAME", "PROTOCOL", "PORTS", "RUNNING", "STATUS", "RESTARTS", "EXIT"],
        ["llm", "http", inside["llm"], "True", "healthy", "0", "-"],
        ["deaf", "http", inside["deaf"], "True", "unhealthy", "0", "-"],
        ["dead", "http", inside["dead"], "False", "failed", "1", "7"],
    ]
    rows = {row["name"]: row for row in node.json("services", "list", "m")}
    assert rows["llm"]["model"] == {"status": "healthy", "message": "", "restarts": 0}
    assert rows["dead"]["model"]["message"] == (
        "it ended with exit code 7, and was started again once; it said at last: no such model"
    )
    assert node.agentctl("services", "stop", "m", "llm") == "llm: ended\n"
    assert status_of(node, "m").status == "stopped"
    where = f"port {inside['llm']} of the kernel, reached at {ports['llm']['address']}"
    assert node.agentctl("services", "start", "m", "llm") == f"llm: healthy on {where}\n"
    said = node.agentctl("services", "start", "m", "dead", code=1)
    assert "error[service-failed]: model 'dead' of kernel m is failed: it ended" in said
    assert "no such model" in node.agentctl("kernels", "logs", "m")
    node.destroy("m")
    node.clean()  # no process of it is left


def test_a_model_is_followed_through_bad_and_good_days(node):
    node.start()
    kernel = node.create(model_definition=definition(model()))
    until(node, kernel, "healthy")
    answer_with(node, kernel, 500)
    unwell = until(node, kernel, "unhealthy")
    assert unwell.message == "it answers /health with 500 instead of 200, 2 times in a row"
    answer_with(node, kernel, 200)
    until(node, kernel, "healthy")
    os.kill(pid_of(node, kernel), signal.SIGKILL)
    assert until(node, kernel, "starting").message.startswith("it ended with exit code 137; ")
    assert until(node, kernel, "healthy").restarts == 1
    node.destroy(kernel)
    node.clean()


def test_each_change_is_an_event_that_is_not_kept(node):
    node.start()
    kernel = node.create(model_definition=definition(model()))
    until(node, kernel, "healthy")

    async def told():
        async with AgentClient(str(node.socket)) as agent:
            events = agent.watch_events(kernel, progress=True)
            return [item async for item in events if item.name == "model-service.status"]

    changes = asyncio.run(told())
    assert [each.data["status"] for each in changes] == ["starting", "healthy"]
    assert changes[-1].data == {
        "model": "llm",
        "status": "healthy",
        "message": "",
        "restarts": 0,
        "exit_code": None,
        "incarnation": 1,
    }
    assert {each.id for each in changes} == {None}
    assert not any(event.name == "model-service.status" for event in node.events(kernel))


def test_models_outlive_the_agent_and_it_asks_how_they_are(node):
    node.start()
    kernel = node.create(model_definition=definition(model()))
    until(node, kernel, "healthy")
    pid = pid_of(node, kernel)
    node.end(signal.SIGKILL)
    answer_with(node, kernel, 503)
    node.start()
    until(node, kernel, "unhealthy")
    assert pid_of(node, kernel) == pid
    answer_with(node, kernel, 200)
    until(node, kernel, "healthy")
    node.end(signal.SIGKILL)
    os.kill(pid, signal.SIGKILL)
    node.start()
    assert until(node, kernel, "healthy").restarts == 1
    assert pid_of(node, kernel) != pid


def test_a_kernel_that_is_restarted_serves_its_models_again(node):
    node.start()
    kernel = node.create(model_definition=definition(model()))
    until(node, kernel, "healthy")
    before = pid_of(node, kernel)
    node.ask("shutdown_service", kernel, "llm")
    node.ask("restart_kernel", kernel, 1)
    node.ask("wait_kernel", kernel, ["RUNNING"], timeout=30)
    until(node, kernel, "healthy")
    assert pid_of(node, kernel) != before


def test_a_definition_with_faults_makes_no_kernel(node, tmp_path):
    node.start()
    broken = definition({"name": "llm", "service": {"start_comand": "x", "port": 8000}})
    with pytest.raises(InvalidSpec, match=r"start_comand is not known; known: .*start_command"):
        node.create(model_definition=broken)
    with pytest.raises(InvalidSpec, match="port 8000 is also of 'web'"):
        node.create(model_definition=definition(model()), ports="web:http:8000")
    path = tmp_path / "models.yaml"
    path.write_text("models:\n  - name: llm\n    service: {port: 80}\n")
    create = ("kernels", "create", "--image", "python", "--model-definition", str(path))
    said = node.agentctl(*create, code=1)
    assert "model_definition: models[0] service start_command is missing" in said
    assert node.ask("list_kernels", include_ended=True) == []


def test_a_model_beside_services_takes_no_options_and_is_none_of_theirs(node):
    node.start()
    kernel = node.create(model_definition=definition(model()), ports="web:tcp:9000,llm:tcp:8000")
    until(node, kernel, "healthy")
    rows = {row.name: row for row in node.ask("list_services", kernel)}
    assert (rows["llm"].protocol, rows["web"].model) == ("tcp", None)
    assert "STATUS" in node.agentctl("services", "list", kernel)
    other = node.create(ports="web:tcp:9000")
    assert "STATUS" not in node.agentctl("services", "list", other)
    answer_with(node, kernel, 500)
    until(node, kernel, "unhealthy")
    with pytest.raises(ServiceFailed, match="is unhealthy"):
        node.ask("start_service", kernel, "llm")
