"""The other end of a runner's socket, honest or not, and the runs that it is the runner of."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket

from agent_core.kernels.runner.runs import Runs
from agent_core.wire.params import ExecuteCode

DEADLINE = 10
PEERS = []


class Peer:
    """The other end of the socket, honest or not, as a test wants it."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer

    @classmethod
    async def connect(cls, run_dir, kernel_id="k", incarnation=1, greet=True, stream="", runs=()):
        peer = cls(*await asyncio.open_unix_connection(sock=knock(run_dir / "runner.sock")))
        PEERS.append(peer)
        if greet:
            hello = {"type": "hello", "protocol": 1, "pid": 1, "stream": stream, "runs": [*runs]}
            peer.send({**hello, "kernel_id": kernel_id, "incarnation": incarnation})
        return peer

    def send(self, message):
        self.raw(json.dumps(message).encode())

    def raw(self, body):
        self.writer.write(len(body).to_bytes(4, "big") + body)

    async def read(self):
        length = int.from_bytes(await self.reader.readexactly(4), "big")
        return json.loads(await self.reader.readexactly(length))

    async def read_until(self, kind):
        while True:
            message = await self.read()
            if message["type"] == kind:
                return message

    async def closed(self):
        while await self.reader.read(65536):
            pass
        return True


def knock(path):
    """Connect at once or not at all; asyncio would take a full backlog for a slow connection."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.connect(str(path))
    except BlockingIOError:
        sock.close()
        raise
    return sock


def with_runs(tmp_path, body):
    async def main():
        runs = Runs("k", 1, tmp_path)
        await runs.link.open()
        try:
            async with asyncio.timeout(DEADLINE):
                return await body(runs)
        finally:
            await runs.close()
            for peer in PEERS:
                peer.writer.close()
                with contextlib.suppress(OSError):
                    await peer.writer.wait_closed()
            PEERS.clear()

    return asyncio.run(main())


async def collect(runs, **changes):
    params = ExecuteCode(**{"kernel_id": "k", "run_id": "r1", "code": "x", **changes})
    return [item async for item in runs.execute(params)]


def output(seq, text, run_id="r1"):
    return {"type": "output", "seq": seq, "run_id": run_id, "stream": "stdout", "text": text}


def finished(seq, run_id="r1", status="finished", code=0):
    return {"type": "finished", "seq": seq, "run_id": run_id, "status": status, "exit_code": code}
