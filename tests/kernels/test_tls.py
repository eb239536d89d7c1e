"""TLS in front of a port: both directions, whoever ends first, whoever is slow, whoever is rude."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl

import pytest
from certificates import make_certificate
from cryptography.hazmat.primitives import serialization

from agent_core.contracts.errors import InvalidConfig
from agent_core.kernels.tls import fronts as fronts_module
from agent_core.kernels.tls import relay as relay_module
from agent_core.kernels.tls.fronts import Front, TlsFronts

from .conftest import until

DEADLINE = 20


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Caller:
    """A caller that speaks TLS over a plain socket, and can say that it has said all."""

    def __init__(self, port, authority, name="localhost"):
        context = ssl.create_default_context(cafile=authority)
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname=name)
        self.port = port

    async def connect(self):
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)
        await self._until(self.tls.do_handshake)
        return self

    async def _until(self, step):
        while True:
            try:
                return step()
            except ssl.SSLWantReadError:
                await self.flush()
                data = await self.reader.read(65536)
                self.incoming.write(data) if data else self.incoming.write_eof()
            finally:
                await self.flush()

    async def flush(self):
        if self.outgoing.pending:
            self.writer.write(self.outgoing.read())
            await self.writer.drain()

    async def say(self, data):
        self.tls.write(data)
        await self.flush()

    async def hear(self, size):
        """Read so many bytes, or all until the other side has said all."""
        heard = b""
        while len(heard) < size:
            try:
                data = await self._until(lambda: self.tls.read(65536))
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                break
            if not data:
                break
            heard += data
        return heard

    async def say_goodbye(self):
        with contextlib.suppress(ssl.SSLWantReadError):
            self.tls.unwrap()
        await self.flush()

    def leave(self):
        self.writer.transport.abort()


class Scene:
    """A kernel's server, the agent's listener in front of it, and callers."""

    def __init__(self, tmp_path, serve, idle=None):
        self.cert, self.key = make_certificate(tmp_path)
        self.serve = serve
        self.fronts = TlsFronts(idle=idle)
        self.front = Front(free_port(), free_port())
        self.callers = []
        self.writers = []
        self.server_done = asyncio.Event()

    async def meet(self, reader, writer):
        self.writers.append(writer)
        await self.serve(reader, writer)
        self.server_done.set()

    async def open(self, *, listening=True):
        await self.fronts.load(self.cert, self.key)
        await self.fronts.listen(self.front)
        self.server = None
        if listening:
            self.server = await asyncio.start_server(
                self.meet, "127.0.0.1", self.front.leads_to, limit=1 << 20
            )
        return self

    async def caller(self, authority=None, name="localhost"):
        caller = Caller(self.front.port, authority or self.cert, name)
        self.callers.append(caller)
        return await caller.connect()

    async def close(self):
        await self.fronts.close()
        for caller in self.callers:
            with contextlib.suppress(AttributeError):
                caller.leave()
        for writer in self.writers:
            writer.transport.abort()
        if self.server is not None:
            self.server.close()
        for _ in range(5):  # the transports take a few turns to be gone
            await asyncio.sleep(0)


def played(tmp_path, serve, body, *, listening=True, **options):
    async def main():
        scene = Scene(tmp_path, serve, **options)
        try:
            async with asyncio.timeout(DEADLINE):
                await scene.open(listening=listening)
                return await body(scene)
        finally:
            await scene.close()
            assert scene.fronts._relays == 0, "a connection is still counted"

    return asyncio.run(main())


async def echo(reader, writer):
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


async def total(reader, writer):
    """Answer only once the other side has said all."""
    size = len(await reader.read(-1))
    writer.write(b"%d bytes" % size)
    writer.close()


def test_what_is_said_arrives_in_both_directions(tmp_path):
    async def body(scene):
        caller = await scene.caller()
        await caller.say(b"hello")
        first = await caller.hear(5)
        big = bytes(range(256)) * 8192
        saying = asyncio.ensure_future(caller.say(big))
        heard = await caller.hear(len(big))
        await saying
        return first, heard == big

    assert played(tmp_path, echo, body) == (b"hello", True)


def test_a_caller_that_has_said_all_is_still_answered(tmp_path):
    async def body(scene):
        caller = await scene.caller()
        await caller.say(b"x" * 300_000)
        await caller.say_goodbye()
        return await caller.hear(100)

    assert played(tmp_path, total, body) == b"300000 bytes"


def test_a_caller_that_closes_without_a_word_is_understood(tmp_path):
    async def body(scene):
        caller = await scene.caller()
        await caller.say(b"xy")
        caller.writer.write_eof()
        return await caller.hear(100)

    assert played(tmp_path, total, body) == b"2 bytes"


def test_a_kernel_that_has_said_all_still_hears_the_caller(tmp_path):
    heard = []

    async def serve(reader, writer):
        writer.write(b"that is all")
        writer.write_eof()
        heard.append(await reader.read(-1))
        writer.close()

    async def body(scene):
        caller = await scene.caller()
        said = await caller.hear(100)
        await caller.say(b"one thing more")
        await caller.say_goodbye()
        assert await caller.reader.read(-1) == b""
        await asyncio.wait_for(scene.server_done.wait(), DEADLINE)
        return said

    assert played(tmp_path, serve, body) == b"that is all"
    assert heard == [b"one thing more"]


def test_who_does_not_read_makes_the_other_wait(tmp_path):
    sent = []

    async def serve(reader, writer):
        writer.transport.set_write_buffer_limits(high=1)
        with contextlib.suppress(OSError):
            while True:
                writer.write(b"x" * 65536)
                await writer.drain()
                sent.append(65536)

    async def body(scene):
        caller = Caller(scene.front.port, scene.cert)
        scene.callers.append(caller)
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", scene.front.port))
        caller.reader, caller.writer = await asyncio.open_connection(sock=sock, limit=1 << 16)
        await caller._until(caller.tls.do_handshake)
        caller.writer.transport.pause_reading()
        before = -1
        while before != len(sent):
            before = len(sent)
            await asyncio.sleep(0.2)
        caller.leave()
        return sum(sent)

    # What fits into the buffers of sockets and relays, and no more.
    assert played(tmp_path, serve, body) < 32 << 20


def test_a_port_where_nobody_listens_yet_closes_the_connection_at_once(tmp_path):
    async def body(scene):
        caller = await scene.caller()
        assert await caller.hear(10) == b""
        assert await caller.reader.read(-1) == b""
        scene.server = await asyncio.start_server(scene.meet, "127.0.0.1", scene.front.leads_to)
        again = await scene.caller()
        await again.say(b"now")
        return await again.hear(3)

    assert played(tmp_path, echo, body, listening=False) == b"now"


def test_who_speaks_no_tls_is_closed_and_nothing_of_it_reaches_the_kernel(tmp_path):
    met = []

    async def serve(reader, writer):
        met.append(await reader.read(-1))
        writer.close()

    async def body(scene):
        reader, writer = await asyncio.open_connection("127.0.0.1", scene.front.port)
        writer.write(b"GET / HTTP/1.0\r\n\r\n")
        said = await reader.read(-1)
        writer.close()
        return said

    assert played(tmp_path, serve, body) == b""
    assert met == []


def test_who_never_shakes_hands_is_closed_at_a_deadline(tmp_path, monkeypatch):
    monkeypatch.setattr(relay_module, "HANDSHAKE", 0.05)

    async def body(scene):
        reader, writer = await asyncio.open_connection("127.0.0.1", scene.front.port)
        writer.write(b"\x16")
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read(-1) == b""
        writer.close()

    played(tmp_path, echo, body)


def test_a_connection_on_which_nothing_is_said_is_ended(tmp_path):
    async def body(scene):
        caller = await scene.caller()
        await caller.say(b"x")
        assert await caller.hear(1) == b"x"
        with contextlib.suppress(ConnectionResetError):
            assert await caller.hear(1) == b""

    played(tmp_path, echo, body, idle=0.1)


def test_more_callers_than_allowed_are_turned_away_and_others_served(tmp_path, monkeypatch):
    monkeypatch.setattr(fronts_module, "CALLERS", 3)

    async def body(scene):
        callers = [await scene.caller() for _ in range(3)]
        reader, writer = await asyncio.open_connection("127.0.0.1", scene.front.port)
        assert await reader.read(-1) == b""
        writer.close()
        for number, caller in enumerate(callers):
            await caller.say(b"%d" % number)
            assert await caller.hear(1) == b"%d" % number
        callers[0].leave()
        await until(lambda: scene.fronts._relays == 2)
        another = await scene.caller()
        await another.say(b"!")
        return await another.hear(1)

    assert played(tmp_path, echo, body) == b"!"


def test_many_callers_at_once_each_hear_their_own_words(tmp_path):
    async def one(scene, number):
        caller = await scene.caller()
        words = b"%d" % number * 5000
        saying = asyncio.ensure_future(caller.say(words))
        heard = await caller.hear(len(words))
        await saying
        return heard == words

    async def body(scene):
        return await asyncio.gather(*(one(scene, number) for number in range(100)))

    assert all(played(tmp_path, echo, body))


def test_a_new_certificate_is_shown_to_new_callers_and_a_bad_one_changes_nothing(tmp_path):
    async def body(scene):
        old = await scene.caller()
        cert, key = make_certificate(tmp_path, "other")
        with pytest.raises(InvalidConfig, match="cannot be used"):
            await scene.fronts.load(cert, scene.key)
        await scene.caller()
        await scene.fronts.load(cert, key)
        with pytest.raises(ssl.SSLCertVerificationError):
            await scene.caller()
        new = await scene.caller(cert, "other")
        for caller in (old, new):
            await caller.say(b"x")
            assert await caller.hear(1) == b"x"

    played(tmp_path, echo, body)


def test_listening_twice_is_listening_once_and_closing_ends_the_connections(tmp_path):
    async def body(scene):
        await scene.fronts.listen(scene.front)
        caller = await scene.caller()
        await scene.fronts.close([scene.front.port, 1])
        with contextlib.suppress(ConnectionResetError):
            assert await caller.hear(1) == b""
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", scene.front.port)

    played(tmp_path, echo, body)


@pytest.mark.parametrize("missing", ["cert", "key"])
def test_half_a_pair_is_a_fault_of_the_configuration(tmp_path, missing):
    cert, key = make_certificate(tmp_path)
    pair = (None, key) if missing == "cert" else (cert, None)
    with pytest.raises(InvalidConfig, match=f"service-tls-{missing} is not"):
        asyncio.run(TlsFronts().load(*pair))


def test_a_key_with_a_password_is_refused_and_nobody_is_asked(tmp_path):
    cert, key = make_certificate(tmp_path)
    loaded = serialization.load_pem_private_key(key.read_bytes(), None)
    form = serialization
    locked = form.BestAvailableEncryption(b"secret")
    key.write_bytes(loaded.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, locked))
    with pytest.raises(InvalidConfig, match="cannot be used"):
        asyncio.run(TlsFronts().load(cert, key))
