"""The plugin: found by its entry point, light to import, and saying how to start the runner."""

import ast
import subprocess
import sys
import time
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from agent_core.contracts import runner as contract
from agent_core.contracts.errors import Unsupported
from agent_core.contracts.runner import KernelRunner, LaunchContext
from agent_core.contracts.versions import RUNNER_PROTOCOL

from agent_kernel_runner import plugin
from agent_kernel_runner.daemon import connection, framing, outbox

CONTEXT = LaunchContext("k", 1, "/run", "/work", "/state", "python", "/usr/bin/python3")
PACKAGE = Path(plugin.__file__).parent


def test_the_entry_point_leads_to_the_class():
    (point,) = entry_points(group="agent_core.runner.v1", name="default")
    assert issubclass(point.load().register_runner(), KernelRunner)


def test_launching_is_pure_and_isolated():
    runner = plugin.DefaultRunner()
    launch = runner.launch(CONTEXT)
    assert launch == runner.launch(CONTEXT)
    assert launch.argv[:3] == (sys.executable, "-I", "-S")
    assert Path(launch.argv[3]).is_file()


def test_the_grace_is_configured():
    runner = plugin.DefaultRunner()
    runner.open({"interrupt-grace": 7})
    assert "interrupt_grace=7.0" in runner.launch(CONTEXT).argv


def test_an_unknown_runtime_type_is_refused():
    with pytest.raises(Unsupported, match="fortran") as caught:
        plugin.DefaultRunner().launch(
            LaunchContext("k", 1, "/run", "/work", "/state", "fortran", "/bin/f")
        )
    assert "python, shell" in caught.value.hint


def test_the_daemon_and_the_contract_agree():
    assert connection.PROTOCOL == RUNNER_PROTOCOL
    assert connection._SOCKET_NAME == contract.SOCKET_NAME
    assert framing.MAX_FRAME == contract.MAX_FRAME
    assert outbox.OUTPUT_BOUND == contract.OUTPUT_BOUND
    assert outbox.OUTPUT_CHUNK == contract.OUTPUT_CHUNK


def test_the_daemon_imports_nothing_but_itself_and_the_standard_library():
    parts = ("agent_kernel_runner.daemon", "agent_kernel_runner.jupyter")
    modules = [*(PACKAGE / "daemon").glob("*.py"), *(PACKAGE / "jupyter").glob("*.py")]
    for module in sorted(modules):
        for node in ast.walk(ast.parse(module.read_text())):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module]
            for name in names:
                top = name.split(".")[0]
                assert top in sys.stdlib_module_names or name.startswith(parts), module


def test_the_interpreters_script_is_python_3_8_of_the_standard_library_alone():
    tree = ast.parse((PACKAGE / "interpreters" / "python.py").read_text(), feature_version=(3, 8))
    imported = {
        name.split(".")[0]
        for node in ast.walk(tree)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert imported <= sys.stdlib_module_names


def test_importing_the_plugin_starts_and_opens_nothing():
    code = "import sys, threading, agent_kernel_runner.plugin\n"
    code += "assert threading.active_count() == 1\n"
    code += "assert not {'asyncio', 'socket', 'zmq', 'subprocess'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_start_to_hello_is_short(make_kernel):
    times = []
    for _ in range(5):
        kernel = make_kernel()
        kernel.agent.listen()
        begin = time.perf_counter()
        kernel.start()
        kernel.agent.wait(lambda agent=kernel.agent: agent.hellos)
        times.append(time.perf_counter() - begin)
        kernel.down()
    assert min(times) < 0.25  # seconds, on however busy a machine; the aim is 0.025
