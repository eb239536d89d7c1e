import json
import subprocess
import sys

import pytest

from agent_core import __version__
from agent_core.cli.main import COMMANDS
from agent_core.cli.main import agentctl as group

FAULTY = '[agent]\nbackend = 5\n[containr]\nscratch-type = "x"\n'


@pytest.fixture
def config(tmp_path):
    def write(text):
        path = tmp_path / "agent.toml"
        path.write_text(text)
        return str(path)

    return write


def modules_after(*arguments):
    program = (
        "import sys; from agent_core.cli.main import run; code = run(sys.argv[1:]);"
        "print(code, *sorted(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True
    )
    code, *modules = done.stderr.splitlines()[-1].split()
    return int(code), set(modules), done.stdout


def test_listing_plugins_imports_no_plugin_and_nothing_heavy(config):
    path = config('[agent]\nallow-compute-plugins = ["mock"]\n')
    code, modules, out = modules_after("plugins", "list", "-f", path)
    assert code == 0
    assert "cpu" in out
    heavy = {"pydantic", "pydantic_settings", "rich", "zmq", "structlog", "asyncio", "pluggy"}
    plugins = {"agent_core.intrinsic", "accel_mock", "agent_backend_process", "scratch_hostdir"}
    assert modules & (heavy | plugins) == set()


def test_installed_plugins_are_listed_by_the_rules_of_the_configuration(config, agentctl):
    path = config('[agent]\nbackend = "none-such"\nblock-compute-plugins = ["nothing"]\n')
    done = agentctl("plugins", "list", "--json", "-f", path)
    rows = {(row["kind"], row["name"]): row for row in json.loads(done.out)}
    assert rows["device", "cpu"]["state"] == "found"
    assert rows["device", "cpu"]["distribution"] == "agent-core"
    assert rows["device", "cpu"]["contract"] == "v1"
    assert {row["state"] for (kind, _), row in rows.items() if kind == "backend"} <= {
        "not-selected"
    }
    remarks = agentctl("plugins", "list", "-f", path).err
    assert "none-such" in remarks
    assert "nothing" in remarks


def test_why_answers_without_an_agent_and_says_so(config, agentctl, tmp_path):
    path = config(f'[agent]\nvar-base-path = "{tmp_path}"\n')
    done = agentctl("plugins", "why", "mem", "-f", path)
    assert done.code == 0
    assert "the agent does not run" in done.err
    assert "agent-core's own" in done.out
    assert agentctl("plugins", "why", "none-such", "-f", path).code == 1
    assert agentctl("plugins", "why", "mem", "--agent", "/nowhere").code == 3


@pytest.mark.parametrize("as_json", [False, True])
def test_an_agent_that_does_not_run_is_exit_code_3(config, agentctl, tmp_path, as_json):
    path = config(f'[agent]\nvar-base-path = "{tmp_path}"\n')
    done = agentctl("status", "-f", path, *(["--json"] if as_json else []))
    assert done.code == 3
    if as_json:
        assert json.loads(done.out)["error"]["code"] == "agent-unreachable"
        assert done.err == ""
    else:
        assert done.err.startswith("error[agent-unreachable]: no agent at unix://")
        assert "agentctl serve" in done.err
        assert done.out == ""


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["none-such"], "none-such"),
        (["kernels", "creat"], "did you mean 'create'?"),
        (["kernels", "create"], "--image"),
        (["kernels", "create", "--image", "x", "--slot", "cpu"], "KEY=VALUE"),
        (
            ["kernels", "create", "--image", "x", "--slot", "a=1", "--slot", "a=2"],
            "a is given twice",
        ),
        (["kernels", "create", "--image", "x", "--timeout", "0"], "--timeout"),
        (["kernels", "destroy"], "ID"),
        (["status", "--nonsense"], "--nonsense"),
        (["schema", "none-such"], "none-such"),
        (["completion", "tcsh"], "tcsh"),
        (["serve", "--set", "agent.id"], "KEY=VALUE"),
    ],
)
def test_usage_errors_are_exit_code_2_and_say_what_is_wrong(agentctl, arguments, hint):
    done = agentctl(*arguments)
    assert (done.code, done.out) == (2, "")
    assert hint in done.err
    error = json.loads(agentctl(*arguments, "--json").out)["error"]
    assert error["code"] == "usage"
    assert hint in error["message"]


def test_an_address_that_is_none_is_refused(agentctl):
    assert agentctl("status", "--agent", "http://x").code == 1


def test_a_configuration_in_order_is_said_to_be(config, agentctl):
    path = config('[agent]\nid = "i-a"\nagent-sock-port = 6008\n')
    done = agentctl("config", "check", "-f", path)
    assert (done.code, done.out) == (0, f"{path}: in order\n")
    assert "agent-sock-port (with services for kernels)" in done.err
    verdict = json.loads(agentctl("config", "check", "-f", path, "--json").out)
    assert verdict["ok"] is True
    assert verdict["faults"] == []
    assert verdict["path"] == path


def test_every_fault_of_a_configuration_is_reported(config, agentctl):
    path = config(FAULTY)
    done = agentctl("config", "check", "-f", path)
    assert done.code == 1
    assert f"error: {path}:2: agent.backend:" in done.err
    assert f"error: {path}:3: containr:" in done.err
    assert "did you mean 'container'?" in done.err
    verdict = json.loads(agentctl("config", "check", "-f", path, "--json").out)
    assert [fault["line"] for fault in verdict["faults"]] == [2, 3]


def test_plugins_that_are_not_there_are_faults_where_they_are_named(config, agentctl):
    path = config('[agent]\nbackend = "none-such"\n[plugin.cpuu]\nreserved = 1\n')
    done = agentctl("config", "check", "-f", path)
    assert done.code == 1
    assert f"error: {path}:2: agent.backend: backend 'none-such'" in done.err
    assert f"warning: {path}:3: plugin.cpuu: is the table of a plugin" in done.err
    assert "did you mean 'cpu'?" in done.err
    assert "in order" not in done.out
    verdict = json.loads(agentctl("config", "check", "-f", path, "--json").out)
    assert [fault["key"] for fault in verdict["faults"]] == ["agent.backend"]


def test_what_the_environment_names_is_a_fault_of_the_environment(config, agentctl, monkeypatch):
    monkeypatch.setenv("AGENT_AGENT__BACKEND", "none-such")
    done = agentctl("config", "check", "-f", config('[agent]\nid = "i-a"\n'))
    assert done.code == 1
    assert "error: $AGENT_AGENT__BACKEND: agent.backend: backend 'none-such'" in done.err


def test_other_commands_refuse_a_faulty_configuration(config, agentctl):
    path = config(FAULTY)
    done = agentctl("serve", "-f", path)
    assert done.code == 1
    assert done.err.startswith("error[invalid-config]: 2 faults:")
    assert agentctl("plugins", "list", "-f", path).code == 1


def test_showing_the_configuration_tells_who_set_what(config, agentctl, monkeypatch):
    monkeypatch.setenv("AGENT_AGENT__SCALING_GROUP", "blue")
    path = config('[agent]\nid = "i-a"\n')
    done = agentctl("config", "show", "-f", path, "--set", "plugins.allow=['a']")
    lines = {line.split()[0]: line for line in done.out.splitlines()}
    assert lines["agent.id"].endswith(path)
    assert lines["agent.scaling-group"].endswith("$AGENT_AGENT__SCALING_GROUP")
    assert lines["plugins.allow"].endswith("command line")
    assert lines["agent.backend"].endswith("default")
    values = json.loads(agentctl("config", "show", "-f", path, "--json").out)
    assert values["agent"]["scaling-group"] == "blue"


def test_no_summary_of_a_command_is_cut_off(agentctl):
    told = " ".join(agentctl("--help").out.replace("[ARGS]...", "").split())
    assert "..." not in told
    assert "free for one more kernel." in told


def test_the_version_and_the_completion_are_printed(agentctl):
    assert agentctl("version").out == f"agentctl {__version__}\n"
    assert agentctl("--version").out == f"agentctl {__version__}\n"
    assert json.loads(agentctl("version", "--json").out)["protocol"] == 1
    for shell in ("bash", "zsh", "fish"):
        assert "_AGENTCTL_COMPLETE" in agentctl("completion", shell).out


def test_every_command_has_help_with_examples():
    context = group.make_context("agentctl", [], resilient_parsing=True)
    missing = []
    for name in COMMANDS:
        command = group.get_command(context, name)
        commands = getattr(command, "commands", None) or {"": command}
        for below, leaf in commands.items():
            if not (leaf.help and leaf.examples):
                missing.append(f"{name} {below}")
    assert missing == []
