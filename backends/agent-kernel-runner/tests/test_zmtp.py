"""ZMTP as the links speak it: against ZeroMQ itself, and against bytes that are none."""

import threading

import pytest
import zmq

from agent_kernel_runner.daemon.loop import Loop
from agent_kernel_runner.jupyter.link import Link
from agent_kernel_runner.jupyter.zmtp import (
    GREETING,
    Command,
    Decoder,
    ProtocolError,
    message,
    ready,
)

LONG = b"x" * 70_000


@pytest.fixture
def context():
    with zmq.Context() as made:
        yield made


def converse(kind, address, server):
    """Run a link against a server in a thread until the link has a message; return it."""
    loop, received = Loop(), []
    lost = []

    def take(parts):
        received.append(parts)
        loop.stop()

    def lose(reason):
        lost.append(reason)
        loop.stop()

    link = Link(loop, kind, b"me", [address], take, lambda: up(), lose)

    def up():
        if kind == "DEALER":
            link.send([b"", LONG, b"end"])

    loop.call_later(10, loop.stop)
    link.connect()
    thread = threading.Thread(target=server)
    thread.start()
    loop.run()
    thread.join(10)
    link.close()
    assert lost == []
    return received


def test_a_dealer_and_a_router_exchange_messages_of_any_length(context, tmp_path):
    path = str(tmp_path / "s")
    router = context.socket(zmq.ROUTER)

    def serve():
        router.bind(f"ipc://{path}")
        router.send_multipart([*router.recv_multipart(), b"back"])

    assert converse("DEALER", path, serve) == [[b"", LONG, b"end", b"back"]]
    router.close()


def test_a_subscriber_over_tcp_gets_every_topic(context):
    publisher = context.socket(zmq.XPUB)
    port = publisher.bind_to_random_port("tcp://127.0.0.1")

    def serve():
        assert publisher.recv() == b"\x01"
        publisher.send_multipart([b"topic", LONG])

    assert converse("SUB", ("127.0.0.1", port), serve) == [[b"topic", LONG]]
    publisher.close()


def test_messages_are_found_wherever_the_bytes_are_cut():
    data = GREETING + ready({"Socket-Type": b"ROUTER"}) + message([b"a", LONG[:300], b""])
    for size in (1, 2, 63, 64, 65, 500):
        decoder, found = Decoder(1000), []
        for start in range(0, len(data), size):
            found += decoder.feed(data[start : start + size])
        command, parts = found
        assert isinstance(command, Command)
        assert (command.name, parts) == (b"READY", [b"a", LONG[:300], b""])


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 200 OK\r\n",
        b"\xff" * 64,
        GREETING[:10] + b"\x01" + GREETING[11:],
        GREETING[:12] + b"CURVE".ljust(20, b"\0") + bytes(32),
        GREETING + b"\x80\x01x",
        GREETING + b"\x02" + (1 << 40).to_bytes(8, "big"),
        GREETING + b"\x04\x00",
        GREETING + b"\x04\x03\x05RE",
        GREETING + b"\x01\x01x" * 1001,
    ],
)
def test_what_is_no_zmtp_or_too_long_is_refused(data):
    with pytest.raises(ProtocolError):
        Decoder(10_000).feed(data)
