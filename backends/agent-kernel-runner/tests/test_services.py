"""Services: started when asked, waited for until they answer, and ended whole."""

import json
import os
import socket
import sys

import pytest

from agent_kernel_runner.daemon import builtin_services
from agent_kernel_runner.daemon.definitions import fill, read_definition

from .conftest import Asking

HTTP = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(404)
        self.end_headers()
    def log_message(self, *args): pass
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""
TCP = """
import os, signal, socket, sys
print("serving", os.environ.get("COLOUR"), sys.argv[2:], flush=True)
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
while True:
    connection, _ = listener.accept()
    connection.sendall(b"%d" % os.getpid())
    connection.close()
"""
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + TCP
FAMILY = (
    """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
open("child", "w").write(str(child.pid))
"""
    + TCP
)
BAD_MODE = {"action": "write_tempfile", "args": {"mode": "9"}}


def does(action, **args):
    return {"action": action, "args": args}


@pytest.fixture
def port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def define(tmp_path, monkeypatch):
    """Write definition files where the runner that is started later finds them."""
    monkeypatch.setenv("BACKENDAI_SERVICE_DEFS", str(tmp_path))

    def write(name, code=None, **table):
        if code is not None:
            table.setdefault("command", [sys.executable, "-c", code, "{ports[0]}"])
        (tmp_path / f"{name}.json").write_text(json.dumps(table))

    return write


class Services(Asking):
    """What an agent asks of the services of a running kernel."""

    def begin(self, name, protocol="tcp", timeout=20, **options):
        return self.ask(
            "start-service",
            name=name,
            protocol=protocol,
            host="127.0.0.1",
            ports=[self.port],
            options=options,
            timeout=timeout,
        )

    def answer(self, run_id):
        return self.agent.await_kind(run_id, "service-state")

    def start(self, name, protocol="tcp", timeout=20, **options):
        return self.answer(self.begin(name, protocol, timeout, **options))

    def stop(self, name):
        return self.answer(self.ask("shutdown-service", name=name))

    def list(self):
        answer = self.agent.await_kind(self.ask("services"), "services")
        return {each["name"]: (each["state"], each["exit_code"]) for each in answer["services"]}

    def pid(self):
        """Ask the server of the tests who it is."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as connection:
            return int(connection.recv(64))


@pytest.fixture
def services(define, make_kernel, port):
    return Services(make_kernel(grace=0.5).up(), port)


def test_a_service_is_answered_once_it_listens_and_is_started_once(services, define):
    define("web", TCP)
    first, second = services.begin("web"), services.begin("web")
    assert services.answer(first)["state"] == services.answer(second)["state"] == "running"
    pid = services.pid()
    assert services.start("web")["state"] == "running"
    assert services.pid() == pid
    assert services.list() == {"web": ("running", None)}
    assert services.stop("web")["state"] == "stopped"
    assert services.stop("web")["state"] == "stopped"
    assert services.list() == {"web": ("stopped", None)}
    assert services.start("web")["state"] == "running"
    assert services.pid() != pid


def test_an_http_service_has_to_answer_in_http(services, define):
    define("web", HTTP)
    define("tcp", TCP)
    assert services.start("web", "http")["state"] == "running"
    services.stop("web")
    refused = services.start("tcp", "http", timeout=0.5)
    assert refused["error"] == "not-ready"
    assert "answered no HTTP" in refused["message"]
    assert refused["log"].startswith("serving")
    assert services.list()["tcp"] == ("stopped", None)


def test_one_that_never_listens_is_ended_with_all_that_it_started(
    services, define, wait_until, is_alive
):
    define("deaf", FAMILY.partition("import os")[0] + "print('no port', flush=True); child.wait()")
    refused = services.start("deaf", timeout=1)
    assert (refused["error"], refused["state"], refused["log"]) == (
        "not-ready",
        "stopped",
        "no port\n",
    )
    assert f"did not listen on port {services.port} within 1 s" in refused["message"]
    child = int((services.kernel.work / "child").read_text())
    wait_until(lambda: not is_alive(child), "its child lives")


def test_one_that_ends_before_it_listens_is_told_at_once_with_its_last_words(services, define):
    define("broken", "import sys; print('x' * 5000); sys.exit('no licence')")
    refused = services.start("broken")
    assert (refused["error"], refused["exit_code"]) == ("failed", 1)
    assert "exit code 1" in refused["message"]
    assert refused["log"].endswith("no licence\n")
    assert len(refused["log"]) == 2048
    assert services.list() == {"broken": ("stopped", 1)}
    assert "x" * 5000 in services.kernel.journal()


def test_one_that_dies_is_told_with_its_exit_code(services, define, wait_until):
    define("mortal", TCP)
    services.start("mortal")
    os.kill(services.pid(), 9)
    wait_until(lambda: services.list() == {"mortal": ("stopped", 137)})
    assert "service mortal has ended with exit code 137" in services.kernel.journal()
    assert services.start("mortal")["state"] == "running"
    assert services.list() == {"mortal": ("running", None)}


def test_one_that_ignores_sigterm_is_killed_after_the_grace(services, define, is_alive):
    define("stubborn", STUBBORN)
    services.start("stubborn")
    pid = services.pid()
    ending, during = services.ask("shutdown-service", name="stubborn"), services.begin("stubborn")
    assert services.answer(during)["error"] == "conflict"
    assert services.answer(ending)["state"] == "stopped"
    assert not is_alive(pid)


def test_the_children_of_a_service_end_with_it_and_all_end_with_the_kernel(
    services, define, wait_until, is_alive
):
    define("family", FAMILY)
    services.start("family")
    child = int((services.kernel.work / "child").read_text())
    services.stop("family")
    wait_until(lambda: not is_alive(child), "its child lives")
    services.start("family")
    pid, child = services.pid(), int((services.kernel.work / "child").read_text())
    services.kernel.process.terminate()
    services.kernel.process.wait(10)
    wait_until(lambda: not is_alive(pid) and not is_alive(child), "they outlive the kernel")


def test_ending_one_that_is_starting_tells_whoever_waits(services, define):
    define("deaf", "import time; time.sleep(600)")
    starting = services.begin("deaf")
    assert services.stop("deaf")["state"] == "stopped"
    assert services.answer(starting)["error"] == "conflict"


def test_a_port_that_somebody_else_listens_on_is_refused(services, define):
    define("web", TCP)
    with socket.create_server(("127.0.0.1", services.port)):
        refused = services.start("web")
    assert refused["error"] == "conflict"
    assert f"something else listens on its port {services.port}" in refused["message"]
    assert services.start("web")["state"] == "running"


def test_a_preopen_service_is_waited_for_and_never_started_or_ended(services):
    starting = services.begin("mine", "preopen")
    with socket.create_server(("127.0.0.1", services.port)):
        assert services.answer(starting)["state"] == "running"
        assert services.stop("mine")["error"] == "unsupported"


def test_options_are_those_that_the_definition_allows(services, define, wait_until):
    define(
        "web",
        TCP,
        env={"COLOUR": "{protocol}"},
        allowed_envs=["COLOUR"],
        allowed_arguments=["--theme", "--fast"],
        default_arguments={"--theme": "light", "--root": "{home}"},
    )
    refused = services.start("web", HOME="/", theme="dark")
    assert refused["error"] == "invalid"
    assert "no option HOME; known: COLOUR, --theme, --fast, timeout" in refused["message"]
    services.start("web")
    services.stop("web")
    services.start("web", COLOUR="red", theme="dark", fast="")
    services.stop("web")
    home = os.environ.get("HOME")
    said = (
        f"serving tcp ['--theme', 'light', '--root', {home!r}]\n"
        f"serving red ['--root', {home!r}, '--theme', 'dark', '--fast']\n"
    )
    wait_until(lambda: services.kernel.journal() == said, "it was not told")


def test_what_must_be_done_before_the_start_is_done_in_its_order(services, define, wait_until):
    define(
        "web",
        command=[sys.executable, "{script}", "{ports[0]}", "{{x}}"],
        prestart=[
            does("mkdir", path="made"),
            does("run_command", command=["sh", "-c", "sleep 0.1; pwd > made/1"]),
            does("write_file", filename="made/1", body="more", append=True),
            {**does("write_tempfile", body=TCP, mode="640"), "ref": "script"},
            does("log", message="script is {script}"),
        ],
    )
    answer = services.start("web")
    assert answer["state"] == "running", answer
    assert (services.kernel.work / "made/1").read_text() == f"{services.kernel.work}\nmore"
    script = services.kernel.state / "services/web/file-1"
    assert (script.read_text(), script.stat().st_mode & 0o777) == (TCP, 0o640)
    assert f"script is {script}" in services.kernel.journal()
    wait_until(lambda: "['{x}']" in services.kernel.journal())


def test_a_command_before_the_start_that_fails_or_hangs_ends_the_start(services, define):
    define("bad", TCP, prestart=[does("run_command", command=["sh", "-c", "echo why; exit 3"])])
    refused = services.start("bad")
    assert (refused["error"], refused["log"]) == ("failed", "why\n")
    assert "ended with 3" in refused["message"]
    define("slow", TCP, prestart=[does("run_command", command=["sleep", "600"])])
    assert services.start("slow", timeout=0.3)["error"] == "not-ready"
    assert services.list() == {"bad": ("stopped", None), "slow": ("stopped", None)}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "not JSON"),
        ("[" * 50_000, "not JSON"),
        ("[]", "no object"),
        ("{}", "command is missing"),
        ('{"command": "sh"}', "command is not a list"),
        ('{"command": ["sh", 1]}', "command is not a list"),
        ('{"command": ["sh\\u0000"]}', "command is not a list"),
        (json.dumps({"command": ["sh"] * 300}), "command is not a list of at most 256"),
        ('{"command": ["{ports.__class__}", "{nothing}"]}', "{nothing} stands for nothing"),
        ('{"command": ["{ports[7]}"]}', "there are 1 ports"),
        ('{"command": ["no-such-program"]}', "no program no-such-program"),
        ('{"command": ["sh"], "env": {"A=B": "x"}}', "env is not a table"),
        ('{"command": ["sh"], "noop": 1}', "noop is neither"),
        ('{"command": ["sh"], "allowed_envs": ["LD PRELOAD"]}', "names no variable"),
        ('{"command": ["sh"], "default_arguments": {"-a": 1}}', "default_arguments has"),
        ('{"command": ["sh"], "prestart": {}}', "prestart is not a list"),
        ('{"command": ["sh"], "prestart": [{"action": "eval"}]}', "an action that is none of"),
        ('{"command": ["sh"], "prestart": [{"action": "mkdir"}]}', "prestart[0] has no path"),
        (json.dumps({"command": ["sh"], "prestart": [BAD_MODE]}), "a mode that is none"),
        ('{"command": ["sh"], "x": "' + "y" * 70_000 + '"}', "larger than 64 KiB"),
    ],
)
def test_a_definition_that_cannot_be_used_is_refused_with_its_fault(services, tmp_path, text, why):
    (tmp_path / "web.json").write_text(text)
    refused = services.start("web")
    assert refused["error"] == "bad-definition"
    assert why in refused["message"]


def test_unknown_keys_of_a_definition_are_told_and_a_pipe_is_no_definition(
    services, define, tmp_path
):
    define("web", TCP, colour="red", url_template="{protocol}://{host}")
    assert services.start("web")["state"] == "running"
    assert "web.json: the unknown key 'colour' is ignored" in services.kernel.journal()
    services.stop("web")
    os.mkfifo(tmp_path / "pipe.json")
    refused = services.start("pipe")
    assert refused["error"] == "not-found"
    assert "pipe.json" in refused["message"]


def test_a_malformed_request_is_refused_and_harms_nothing(services):
    for fields in ({"name": "../x"}, {"name": 1}, {"name": "x", "ports": [70000]}, {"name": "x"}):
        message = {"protocol": "tcp", "host": "127.0.0.1", "ports": [], "options": {}, **fields}
        assert services.answer(services.ask("start-service", **message))["error"] == "invalid"
    assert services.list() == {}


def test_a_request_that_is_sent_again_after_a_lost_connection_is_one_start(services, define):
    define("web", TCP)
    services.agent.auto_ack = False
    run_id = services.begin("web")
    services.answer(run_id)
    pid = services.pid()
    services.agent.hang_up()
    services.agent.auto_ack = True
    services.agent.connected()
    message = {"protocol": "tcp", "host": "127.0.0.1", "ports": [services.port], "name": "web"}
    services.agent.send(type="start-service", run_id=run_id, options={}, timeout=5, **message)
    assert services.agent.await_kind(run_id, "service-state", count=2)["state"] == "running"
    assert services.pid() == pid


@pytest.mark.parametrize("flags", ["--writable", ""])
def test_ttyd_is_started_where_it_is_there_with_what_its_version_needs(
    make_kernel, port, tmp_path, monkeypatch, wait_until, flags
):
    stand_in = tmp_path / "ttyd"
    stand_in.write_text(f"""#!{sys.executable}
import http.server, sys
if "--help" in sys.argv:
    sys.exit(print("usage {flags}"))
print("started", *sys.argv[1:], flush=True)
port = int(sys.argv[sys.argv.index("--port") + 1])
http.server.HTTPServer(("127.0.0.1", port), http.server.BaseHTTPRequestHandler).serve_forever()
""")
    stand_in.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    services = Services(make_kernel().up(), port)
    assert services.start("ttyd", "http")["state"] == "running"
    said = f"started {flags} --interface 127.0.0.1 --port {port} /".replace("  ", " ")
    wait_until(lambda: said in services.kernel.journal())


def test_a_service_that_nothing_describes_is_refused_with_what_was_looked_for(
    make_kernel, port, tmp_path, monkeypatch
):
    monkeypatch.setenv("BACKENDAI_SERVICE_DEFS", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    services = Services(make_kernel().up(), port)
    refused = services.start("ttyd", "http")
    assert refused["error"] == "not-found"
    assert refused["message"] == (
        f"nothing says how it is started: there is no {tmp_path}/ttyd.json, and no ttyd"
    )


def test_each_definition_of_our_own_is_one_that_a_file_could_be():
    values = {"host": "h", "program": "p", "directory": "d", "home": "h", "shell": "s"}
    values |= {"ports": ["1"], "session_env": ""}
    for name, tables in builtin_services._TABLES.items():
        for _, table in tables:
            definition, warnings = read_definition(json.dumps(table).encode())
            assert warnings == [], name
            for word in definition.command:
                fill(word, values)
            for action in definition.prestart:
                for text in (*action.args.get("command", ()), *action.args.get("body", ())):
                    fill(text, values)
