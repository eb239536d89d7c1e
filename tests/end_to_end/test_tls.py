"""Services over TLS on a real node: the agent listens, and the kernel need not know."""

from __future__ import annotations

import contextlib
import signal
import socket
import ssl
import urllib.request

import pytest
from certificates import make_certificate

from agent_core.contracts.errors import InvalidConfig

SERVER = """
import http.server, os, threading
address = os.environ["BACKENDAI_SERVICE_HOST"], int(os.environ["BACKENDAI_PORT_WEB"])
server = http.server.ThreadingHTTPServer(address, http.server.SimpleHTTPRequestHandler)
open("hello.txt", "w").write(os.environ["BACKENDAI_KERNEL_ID"])
threading.Thread(target=server.serve_forever, daemon=True).start()
print(*server.server_address)
"""


def certify(node):
    """Write a certificate for the node, over the one that is there."""
    make_certificate(node.root, stem="tls")
    return ssl.create_default_context(cafile=str(node.root / "tls.crt"))


def serve_tls(node, **more):
    lines = [f"{key.replace('_', '-')} = {value}" for key, value in more.items()]
    keys = ['service-tls-cert = "tls.crt"', 'service-tls-key = "tls.key"', *lines]
    text = node.config.read_text()
    node.config.write_text(text.replace("[container]", "\n".join(["[container]", *keys])))


def fetched(context, port):
    url = f"https://localhost:{port}/hello.txt"
    with urllib.request.urlopen(url, timeout=10, context=context) as answer:
        return answer.read().decode()


def test_a_service_is_reached_over_tls_also_after_a_restart_of_the_agent(node):
    context = certify(node)
    serve_tls(node, service_tls_idle_timeout='"400ms"')
    node.start()
    kernel = node.create(ports="web:http:8080")
    (row,) = node.json("kernels", "ports", kernel)
    assert row["tls"] is True
    with pytest.raises(OSError, match=r"EOF|reset|closed"):
        fetched(context, row["host_port"])
    said, errors, _ = node.run(kernel, SERVER)
    host, behind = said.split()
    assert (host, int(behind) != row["host_port"]) == ("127.0.0.1", True), errors
    assert fetched(context, row["host_port"]) == kernel
    with (
        socket.create_connection(("localhost", row["host_port"]), timeout=10) as sock,
        context.wrap_socket(sock, server_hostname="localhost") as idle,
    ):
        assert idle.recv(1) == b""

    node.end(signal.SIGKILL)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", row["host_port"]), timeout=10)
    node.start()
    assert node.json("kernels", "ports", kernel) == [row]
    assert fetched(context, row["host_port"]) == kernel
    renewed = certify(node)
    node.ask("reload_config")
    assert fetched(renewed, row["host_port"]) == kernel

    node.ask("restart_kernel", kernel)
    node.ask("wait_kernel", kernel, ["RUNNING"], timeout=30)
    assert node.json("kernels", "ports", kernel) == [row]
    node.run(kernel, SERVER)
    assert fetched(renewed, row["host_port"]) == kernel
    node.destroy(kernel)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", row["host_port"]), timeout=10)
    node.clean()


def test_without_its_certificate_the_agent_starts_and_says_which_ports_are_not_served(node):
    certify(node)
    serve_tls(node)
    node.start()
    kernel = node.create(ports="web:http:8080")
    node.end()
    text = node.config.read_text()
    node.config.write_text(text.replace("service-tls", "#"))
    node.start()
    (row,) = node.json("kernels", "ports", kernel)
    assert any(f"port {row['host_port']} of kernel {kernel} is not served" in w for w in told(node))
    other = node.create(ports="web:http:8080")
    assert node.json("kernels", "ports", other)[0]["tls"] is False
    for each in (kernel, other):
        node.destroy(each)
    node.clean()


def told(node):
    return node.ask("get_status").warnings


def test_a_certificate_that_cannot_be_used_keeps_the_agent_from_starting_and_a_reload_as_it_was(
    node,
):
    context = certify(node)
    serve_tls(node)
    good = (node.root / "tls.key").read_bytes()
    (node.root / "tls.key").write_text("nonsense")
    with pytest.raises(AssertionError, match="service-tls-key"):
        node.start()
    (node.root / "tls.key").write_bytes(good)
    node.end()
    node.start()
    kernel = node.create(ports="web:http:8080")
    node.run(kernel, SERVER)
    (node.root / "tls.key").unlink()
    with pytest.raises(InvalidConfig, match="No such file"):
        node.ask("reload_config")
    assert fetched(context, node.json("kernels", "ports", kernel)[0]["host_port"]) == kernel
    node.destroy(kernel)
    with contextlib.suppress(FileNotFoundError):
        (node.root / "tls.crt").unlink()
