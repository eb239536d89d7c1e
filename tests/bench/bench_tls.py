"""TLS in front of a port, beside the same bytes through asyncio's own TLS and with no TLS at all.

The caller and the kernel are processes of their own; the agent's part is one loop in this one.
"""

import argparse
import asyncio
import json
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from agent_core.kernels.tls.fronts import Front, TlsFronts

SIZE, TRIES, FLOOR = 512 << 20, 3, 200.0
PIECE = 1 << 20
MAKE = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=x"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# ---- the two ends, each a process --------------------------------------------------------------


def sink(port: int, size: int) -> None:
    """Be the kernel: take what comes, or send as much, as the first byte says."""
    with socket.create_server(("127.0.0.1", port)) as server:
        print("ready", flush=True)
        while True:
            connection, _ = server.accept()
            with connection:
                exchange(connection, connection.recv(1) == b"d", size)


def exchange(connection: socket.socket, down: bool, size: int) -> None:
    left = size
    if down:
        piece = bytes(PIECE)
        while left > 0:
            connection.sendall(piece)
            left -= len(piece)
        return
    buffer = bytearray(PIECE)
    while left > 0 and (got := connection.recv_into(buffer)):
        left -= got
    connection.sendall(b"k")


def call(port: int, direction: str, size: int, tls: bool) -> None:
    """Be the caller: print how many seconds the bytes took."""
    connection = socket.create_connection(("127.0.0.1", port))
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        connection = context.wrap_socket(connection)
    with connection:
        connection.sendall(direction.encode())
        began = time.perf_counter()
        if direction == "d":
            left, buffer = size, bytearray(PIECE)
            while left > 0 and (got := connection.recv_into(buffer)):
                left -= got
        else:
            piece = bytes(PIECE)
            for _ in range(size // PIECE):
                connection.sendall(piece)
            connection.recv(1)
        print(time.perf_counter() - began)


# ---- what stands between them ------------------------------------------------------------------


async def through_front(cert: Path, key: Path, port: int, target: int) -> Callable[[], object]:
    fronts = TlsFronts()
    await fronts.load(cert, key)
    await fronts.listen(Front(port, target))
    return fronts.close


async def through_streams(cert: Path, key: Path, port: int, target: int) -> Callable[[], object]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    return await copying(port, target, context)


async def through_copy(cert: Path, key: Path, port: int, target: int) -> Callable[[], object]:
    return await copying(port, target, None)


async def copying(port: int, target: int, context: ssl.SSLContext | None) -> Callable[[], object]:
    """Copy between streams, as the shortest program does it."""

    async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(256 << 10):
            writer.write(data)
            await writer.drain()
        writer.close()

    async def met(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inside, outside = await asyncio.open_connection("127.0.0.1", target, limit=512 << 10)
        await asyncio.gather(pipe(reader, outside), pipe(inside, writer), return_exceptions=True)

    server = await asyncio.start_server(met, "127.0.0.1", port, ssl=context, limit=512 << 10)
    return server.close


Between = Callable[[Path, Path, int, int], Awaitable[Callable[[], object]]]


async def rate(between: Between, cert: Path, key: Path, direction: str, tls: bool) -> float:
    """Return the best of some tries, in MB/s."""
    port, target = free_port(), free_port()
    own = [sys.executable, __file__, "--size", str(SIZE)]
    kernel = await asyncio.create_subprocess_exec(
        *own, "--sink", str(target), stdout=subprocess.PIPE
    )
    assert kernel.stdout is not None
    await kernel.stdout.readline()
    close = await between(cert, key, port, target)
    best = 0.0
    try:
        for _ in range(TRIES):
            flags = ["--tls"] if tls else []
            words = [*own, "--call", str(port), "--direction", direction, *flags]
            caller = await asyncio.create_subprocess_exec(*words, stdout=subprocess.PIPE)
            said, _ = await caller.communicate()
            best = max(best, SIZE / float(said) / 1e6)
    finally:
        closing = close()
        if closing is not None:
            await closing  # type: ignore[misc]
        kernel.kill()
        await kernel.wait()
    return best


async def measure(folder: Path) -> list[dict[str, object]]:
    cert, key = folder / "x.crt", folder / "x.key"
    rows: list[dict[str, object]] = []
    for direction, words in (("d", "from a kernel"), ("u", "to a kernel")):
        ours = await rate(through_front, cert, key, direction, True)
        streams = await rate(through_streams, cert, key, direction, True)
        plain = await rate(through_copy, cert, key, direction, False)
        rows.append(
            {
                "what": f"TLS pass-through {words}, one connection",
                "measured": f"{ours:.0f} MB/s",
                "target": f">= {FLOOR:.0f} MB/s",
                "met": ours >= FLOOR,
                "note": (
                    f"{streams:.0f} MB/s through asyncio's streams with TLS, {plain:.0f} MB/s "
                    "through its streams without; caller and kernel are processes on the same CPUs"
                ),
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--sink", type=int)
    parser.add_argument("--call", type=int)
    parser.add_argument("--direction", default="d")
    parser.add_argument("--size", type=int, default=SIZE)
    parser.add_argument("--tls", action="store_true")
    asked = parser.parse_args()
    if asked.sink:
        sink(asked.sink, asked.size)
    elif asked.call:
        call(asked.call, asked.direction, asked.size, asked.tls)
    else:
        with tempfile.TemporaryDirectory() as folder:
            where = Path(folder)
            made = ["-keyout", str(where / "x.key"), "-out", str(where / "x.crt")]
            subprocess.run([*MAKE.split(), *made], check=True, capture_output=True)
            print(json.dumps({"rows": asyncio.run(measure(where)), "growth": {}}))


if __name__ == "__main__":
    main()
