"""Published ports on a real node: reached from outside, kept over a crash, never given twice."""

import contextlib
import json
import signal
import socket
import time
import urllib.request

import pytest

SERVER = """
import http.server, os, threading
address = os.environ["BACKENDAI_SERVICE_HOST"], int(os.environ["BACKENDAI_PORT_WEB"])
server = http.server.ThreadingHTTPServer(address, http.server.SimpleHTTPRequestHandler)
open("hello.txt", "w").write(os.environ["BACKENDAI_KERNEL_ID"])
threading.Thread(target=server.serve_forever, daemon=True).start()
print(server.server_port)
"""
CONFIG = """
[container]
scratch-root = "{root}/scratches"
stop-grace = 2
port-range = [{first}, {last}]
port-reuse-cooldown-sec = {cooldown}
{extra}
"""
COUNT = 3


@pytest.fixture
def range_of_ports():
    """A few ports in a row that nobody uses now."""
    for first in range(23000, 24000, COUNT):
        with contextlib.ExitStack() as stack:
            try:
                for port in range(first, first + COUNT):
                    stack.enter_context(socket.socket()).bind(("127.0.0.1", port))
            except OSError:
                continue
        return range(first, first + COUNT)
    pytest.fail("no ports in a row are free")


def with_ports(node, ports, cooldown=60, extra=""):
    before, _, rest = node.config.read_text().partition("[container]")
    _, _, rest = rest.partition("[resource]")
    text = CONFIG.format(
        root=node.root, first=ports[0], last=ports[-1], cooldown=cooldown, extra=extra
    )
    node.config.write_text(f"{before}{text}\n[resource]{rest}")
    return node.start()


def fetched(address):
    with urllib.request.urlopen(f"http://{address}/hello.txt", timeout=10) as answer:
        return answer.read().decode()


def test_a_service_is_reached_where_the_node_says_and_over_a_crash_of_the_agent(
    node, range_of_ports
):
    with_ports(node, range_of_ports)
    created = ["kernels", "create", "--image", "python", "--port", "web:http:8080"]
    kernel = node.json(*created)["kernel_id"]
    (row,) = node.json("kernels", "ports", kernel)
    assert (row["name"], row["protocol"], row["container_port"]) == ("web", "http", 8080)
    assert row["host_port"] in range_of_ports
    said, errors, _ = node.run(kernel, SERVER)
    assert said == f"{row['host_port']}\n", errors
    assert fetched(row["address"]) == kernel
    assert row["address"] in node.agentctl("kernels", "show", kernel)

    node.end(signal.SIGKILL)
    node.start()
    assert node.json("kernels", "ports", kernel) == [row]
    assert fetched(row["address"]) == kernel
    others = [node.create(ports="web:http:8080") for _ in range(COUNT - 1)]
    held = [node.json("kernels", "ports", other)[0]["host_port"] for other in others]
    assert sorted([row["host_port"], *held]) == [*range_of_ports]
    refusal = node.json(*created, code=1)["error"]
    assert (refusal["code"], refusal["retryable"]) == ("no-free-port", True)
    assert refusal["details"]["held"] == COUNT

    for each in (kernel, *others):
        node.destroy(each)
    node.clean()
    assert node.json(*created, code=1)["error"]["details"]["cooling"] == COUNT


def test_a_port_that_a_stranger_listens_on_is_passed_over_and_told(node, range_of_ports):
    with contextlib.ExitStack() as stack:
        for port in range_of_ports[1:]:
            stranger = stack.enter_context(socket.socket())
            stranger.bind(("127.0.0.1", port))
            stranger.listen()
        with_ports(node, range_of_ports, cooldown=0)
        for _ in range(3):
            kernel = node.create(ports="web:http:8080")
            (row,) = node.json("kernels", "ports", kernel)
            assert row["host_port"] == range_of_ports[0]
            node.destroy(kernel)
        node.clean()
    node.end()
    told = " ".join(line for line in node.log if "a port is passed over" in line)
    # Wherever the rotation began, it has come past both of them.
    assert [str(port) in told for port in range_of_ports] == [False, True, True]


def test_a_file_says_where_services_are_reached_for_whoever_reads_files(node, range_of_ports):
    path = node.root / "ports.json"
    with_ports(node, range_of_ports, extra=f'ports-file = "{path}"')
    until(lambda: listed(path) == [])
    kernel = node.create(ports="web:http:8080", session_id="s")
    (row,) = node.json("kernels", "ports", "--all")
    expected = {
        "kernel_id": kernel,
        "session_id": "s",
        "service": "web",
        "protocol": "http",
        "host": row["host"],
        "port": row["host_port"],
        "container_port": 8080,
        "tls": False,
    }
    until(lambda: listed(path) == [expected])
    assert kernel in node.agentctl("kernels", "ports", "--all")
    node.end(signal.SIGKILL)
    path.write_text("half of")
    node.start()
    until(lambda: listed(path) == [expected])
    node.destroy(kernel)
    node.end()
    assert json.loads(path.read_text()) == {"version": 1, "agent": "t", "ports": []}
    assert not path.with_name("ports.json.new").exists()


def listed(path):
    with contextlib.suppress(FileNotFoundError, ValueError):
        return json.loads(path.read_text())["ports"]
    return None


def until(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
