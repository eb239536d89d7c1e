"""Models: prepared, started, asked how they are, started again, and ended whole."""

import os
import signal
import socket
import sys
from dataclasses import asdict, replace

import pytest
from agent_core.contracts.models import HealthCheck, ModelService, PreStartAction

from .conftest import Asking, alive, until

SERVER = """
import http.server, os, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path != "/health":
            self.send_error(404)
        else:
            self.send_response(int(open("code").read()) if os.path.exists("code") else 200)
            self.end_headers()
    def log_message(self, *args): pass
open("pid", "w").write(str(os.getpid()))
print("serving", os.environ.get("COLOUR"), flush=True)
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""
DEAF = "import os, time; open('pid', 'w').write(str(os.getpid())); time.sleep(600)"
CHECK = HealthCheck("/health", max_retries=2, max_wait_time=5.0, interval=0.1)
STRICT = HealthCheck("/health", max_retries=1, max_wait_time=3.0, interval=0.1)
"""Unwell at the first wrong answer, and with time for a server to start on a busy machine."""

ONCE = HealthCheck(max_retries=0, interval=0.1)


@pytest.fixture
def port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Models(Asking):
    """What an agent asks of the models of a running kernel, and what it is told."""

    def start(self, code=SERVER, *, anew=False, path="", name="llm", **fields):
        command = (sys.executable, "-c", code, str(self.port))
        model = ModelService(name, self.port, **{"start_command": command, **fields})
        service = {**asdict(model), "model_path": path}
        service["health_check"] = {k: v for k, v in service["health_check"].items() if v != ""}
        where = {"host": "127.0.0.1", "port": self.port}
        return self.ask("start-model", name=name, **where, service=service, anew=anew)

    def stop(self, name="llm"):
        return self.until(self.ask("stop-model", name=name), "stopped")

    def told(self, run_id):
        return [(each["status"], each["restarts"]) for each in self.agent.of(run_id, "model-state")]

    def until(self, run_id, status, count=1):
        """Wait until a status was told so many times; return the last of these messages."""

        def found():
            told = self.agent.of(run_id, "model-state")
            return [each for each in told if each["status"] == status]

        self.agent.wait(lambda: len(found()) >= count, what=f"{run_id} was not {status}")
        return found()[count - 1]

    def pid(self, directory=None):
        return int(((directory or self.kernel.work) / "pid").read_text())

    def answer_with(self, code):
        """Let the server answer with a status; the file is whole at each moment."""
        fresh = self.kernel.work / "fresh"
        fresh.write_text(str(code))
        fresh.rename(self.kernel.work / "code")


def written(path):
    """Wait until a file has something in it."""
    until(lambda: path.exists() and path.read_text(), f"nothing is written to {path}")
    return path.read_text()


@pytest.fixture
def models(make_kernel, port):
    return Models(make_kernel(grace=0.5).up(), port)


def test_a_model_is_well_once_it_answers_as_it_should_and_is_started_once(models):
    first = models.start(health_check=CHECK)
    well = models.until(first, "healthy")
    assert (well["message"], well["restarts"], well["exit_code"]) == ("", 0, None)
    assert models.told(first)[0] == ("starting", 0)
    pid = models.pid()
    again = models.start(health_check=CHECK, anew=True)
    models.until(again, "healthy")
    assert models.told(again) == [("healthy", 0)]
    assert models.pid() == pid
    models.stop()
    assert not alive(pid)
    models.until(models.start(health_check=CHECK), "stopped")
    models.until(models.start(health_check=CHECK, anew=True), "healthy")
    assert models.pid() != pid


def test_what_is_done_before_is_done_once_and_in_the_place_of_the_model(models):
    place = models.kernel.work / "here"
    place.mkdir()
    actions = (
        PreStartAction("mkdir", {"path": "data"}),
        PreStartAction("write_file", {"filename": "data/{x}", "body": ["${Y}"], "append": True}),
        PreStartAction("run_command", {"command": ["sh", "-c", "pwd > where; echo prepared"]}),
        PreStartAction("log", {"message": "about to start {it}"}),
    )
    run_id = models.start(path="here", pre_start_actions=actions, health_check=CHECK)
    models.until(run_id, "healthy")
    assert (place / "data/{x}").read_text() == "${Y}\n"
    assert (place / "where").read_text() == f"{place}\n"
    os.kill(models.pid(place), signal.SIGKILL)
    models.until(run_id, "healthy", count=2)
    assert (place / "data/{x}").read_text() == "${Y}\n"
    journal = models.kernel.journal()
    assert "prepared" in journal
    assert "about to start {it}" in journal
    assert "serving" in journal


def test_a_line_is_for_the_shell_with_the_variables_of_the_kernel(models):
    line = 'echo "$HOME" > home; echo "${0##*/}" > shell; exec sleep 600'
    run_id = models.start(start_command=line, shell="/bin/sh", health_check=ONCE)
    assert written(models.kernel.work / "home") == f"{os.environ['HOME']}\n"
    assert written(models.kernel.work / "shell") == "sh\n"
    assert models.told(run_id) == [("starting", 0)]


def test_one_that_never_listens_is_unwell_and_runs_on(models):
    said = models.until(models.start(DEAF, health_check=STRICT), "unhealthy")
    assert said["message"] == f"it does not listen on port {models.port}, 3 s after its start"
    assert alive(int(written(models.kernel.work / "pid")))


def test_one_that_answers_wrongly_is_unwell_until_it_answers_as_it_should(models):
    models.answer_with(503)
    run_id = models.start(health_check=STRICT)
    said = models.until(run_id, "unhealthy")["message"]
    assert said == "it answers /health with 503 instead of 200, 3 s after its start"
    models.answer_with(200)
    models.until(run_id, "healthy")
    models.answer_with(500)
    said = models.until(run_id, "unhealthy", count=2)["message"]
    assert said == "it answers /health with 500 instead of 200"
    models.answer_with(200)
    models.until(run_id, "healthy", count=2)
    assert models.told(run_id)[0] == ("starting", 0)
    assert {restarts for _, restarts in models.told(run_id)} == {0}


def test_one_that_hangs_is_unwell_in_the_time_that_a_check_may_take(models):
    run_id = models.start(health_check=STRICT)
    models.until(run_id, "healthy")
    os.kill(models.pid(), signal.SIGSTOP)
    said = models.until(run_id, "unhealthy")
    assert said["message"] == "it did not answer within 3 s"
    os.kill(models.pid(), signal.SIGCONT)
    models.until(run_id, "healthy", count=2)


def test_one_that_talks_something_else_is_told_so(models):
    code = """
import socket, sys
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
while True:
    connection, _ = listener.accept()
    connection.recv(100)
    connection.sendall(b"SSH-2.0\\r\\n")
    connection.close()
"""
    said = models.until(models.start(code, health_check=STRICT), "unhealthy")
    assert said["message"].startswith("it answers, but not with HTTP")


def test_without_a_path_it_is_enough_to_take_connections(models):
    code = """
import socket, sys
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
while True:
    listener.accept()[0].close()
"""
    models.until(models.start(code, health_check=HealthCheck(interval=0.1)), "healthy")


def test_one_that_dies_comes_back(models):
    run_id = models.start(health_check=CHECK)
    models.until(run_id, "healthy")
    dead = models.pid()
    os.kill(dead, signal.SIGKILL)
    said = models.until(run_id, "starting", count=2)
    assert said["message"] == (
        "it ended with exit code 137; it is started again (1 of 2) after 0.5 s; "
        "it said at last: serving None"
    )
    well = models.until(run_id, "healthy", count=2)
    assert (well["restarts"], well["exit_code"], well["message"]) == (1, 137, "")
    assert models.pid() != dead


def test_one_that_dies_again_and_again_has_failed_and_can_be_started_anew(models):
    check = HealthCheck(max_retries=1)
    code = "import sys; print('no such model', flush=True); sys.exit(7)"
    run_id = models.start(code, health_check=check)
    failed = models.until(run_id, "failed")
    assert failed["message"] == (
        "it ended with exit code 7, and was started again once; it said at last: no such model"
    )
    assert (failed["restarts"], failed["exit_code"]) == (1, 7)
    anew = models.start(code, health_check=check, anew=True)
    assert models.until(anew, "failed")["restarts"] == 1
    assert models.told(anew)[0] == ("starting", 0)


def test_one_that_must_not_be_started_again_fails_at_its_first_end(models):
    failed = models.until(models.start("import sys; sys.exit(0)", health_check=ONCE), "failed")
    assert failed["message"] == "it ended with exit code 0"


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        (
            {"pre_start_actions": (PreStartAction("run_command", {"command": ["false"]}),)},
            "its command false before the start ended with 1",
        ),
        (
            {"pre_start_actions": (PreStartAction("run_command", {"command": ["nowhere-4711"]}),)},
            "its run_command failed: nowhere-4711: there is no such program",
        ),
        (
            {"pre_start_actions": (PreStartAction("mkdir", {"path": "/proc/x"}),)},
            "its mkdir failed: /proc/x: No such file or directory",
        ),
        (
            {"start_command": ("nowhere-4711",)},
            "it cannot be started: nowhere-4711: there is no such program",
        ),
        (
            {"start_command": "echo", "shell": "/bin/nowhere"},
            "it cannot be started: /bin/nowhere: there is no such program",
        ),
        ({"path": "/nowhere"}, "its model_path /nowhere is no directory of the kernel"),
    ],
)
def test_what_cannot_be_started_has_failed_and_says_why(models, fields, why):
    assert models.until(models.start(**fields, health_check=CHECK), "failed")["message"] == why


def test_a_port_that_is_taken_is_not_asked_how_the_model_is(models):
    with socket.create_server(("127.0.0.1", models.port)):
        failed = models.until(models.start(health_check=CHECK), "failed")
    assert failed["message"] == f"something else listens on its port {models.port}"


def test_a_model_is_ended_with_all_its_processes_and_while_it_is_prepared(models):
    family = (
        "import subprocess\n"
        "child = subprocess.Popen(['sleep', '600'])\n"
        "open('child', 'w').write(str(child.pid))\n" + SERVER
    )
    models.until(models.start(family, health_check=CHECK), "healthy")
    child = int((models.kernel.work / "child").read_text())
    models.stop()
    until(lambda: not alive(child), "its child runs on")
    slow = PreStartAction("run_command", {"command": ["sh", "-c", "echo $$ > slow; sleep 600"]})
    models.start(name="slow", pre_start_actions=(slow,), health_check=CHECK)
    pid = int(written(models.kernel.work / "slow"))
    models.stop("slow")
    assert not alive(pid)
    assert models.stop("never-heard-of")["status"] == "stopped"


def test_one_that_ignores_the_end_is_killed_and_can_be_asked_for_meanwhile(models):
    stubborn = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + SERVER
    models.until(models.start(stubborn, health_check=CHECK), "healthy")
    pid = models.pid()
    models.ask("stop-model", name="llm")
    run_id = models.start(stubborn, health_check=CHECK, anew=True)
    models.until(run_id, "healthy")
    assert models.told(run_id) == [("starting", 0), ("healthy", 0)]
    assert models.pid() != pid
    assert not alive(pid)


def test_one_that_waits_to_be_started_again_can_be_stopped(models):
    run_id = models.start("import sys; sys.exit(3)", health_check=HealthCheck(max_retries=5))
    models.until(run_id, "starting", count=2)
    assert models.stop()["exit_code"] == 3
    assert models.until(models.start(health_check=CHECK), "stopped")["restarts"] == 1


def test_an_agent_that_was_away_asks_how_it_is_now(models):
    run_id = models.start(health_check=CHECK)
    models.until(run_id, "healthy")
    before = len(models.agent.messages)
    models.agent.leave()
    models.agent.disconnected()
    pid = models.pid()
    os.kill(pid, signal.SIGKILL)
    pids = models.kernel.work / "pid"
    until(lambda: pids.read_text() not in ("", str(pid)), "it did not come back")
    models.agent.listen()
    models.agent.connected()
    asked = models.start(health_check=CHECK)
    models.until(asked, "healthy")
    since = [each for each in models.agent.messages[before:] if each["type"] == "model-state"]
    assert {each["run_id"] for each in since} == {asked}
    assert since[0]["restarts"] == 1


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"service": []}, "service is no table"),
        ({"service": {}}, "start_command is no text"),
        ({"service": {"start_command": ["x", 1]}}, "start_command is no text"),
        ({"service": {"start_command": "x", "model_path": 1}}, "model_path is no text"),
        ({"service": {"start_command": "x", "pre_start_actions": {}}}, "no list of actions"),
        (
            {"service": {"start_command": "x", "pre_start_actions": [{"action": "eval"}]}},
            "pre_start_actions[0] has an action that is none of",
        ),
        (
            {"service": {"start_command": "x", "health_check": {"interval": "often"}}},
            "interval is no number",
        ),
        ({"port": -1, "service": {"start_command": "x"}}, "port is no number up to 65535"),
        ({"name": "../x"}, "name names no service"),
    ],
)
def test_what_is_malformed_is_told_and_starts_nothing(models, fields, why):
    message = {"name": "llm", "host": "127.0.0.1", "port": models.port, **fields}
    told = models.until(models.ask("start-model", **message), "failed")
    assert told["message"].startswith("what was asked is malformed: ")
    assert why in told["message"]


def test_a_model_waits_for_the_bootstrap_script(make_kernel, port):
    kernel = make_kernel(grace=0.5)
    script = kernel.work / "bootstrap.sh"
    script.write_text("until [ -e go ]; do sleep 0.01; done; mkdir made\n")
    kernel.context = replace(kernel.context, bootstrap=str(script))
    models = Models(kernel.up(), port)
    run_id = models.start(path="made", health_check=CHECK)
    models.agent.await_kind(models.ask("services"), "services")
    assert models.told(run_id) == []
    (kernel.work / "go").touch()
    models.until(run_id, "healthy")
