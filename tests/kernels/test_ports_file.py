"""The ports file: whole, in order, and written once for however much has changed."""

from __future__ import annotations

import asyncio
import json

from agent_core.contracts.backend import PublishedPort
from agent_core.kernels import ports_file
from agent_core.kernels.ports_file import PortsFile
from agent_core.kernels.tls.fronts import Front


def port(number, name="web"):
    return PublishedPort(name, "http", 8080, number, "127.0.0.1")


def read(path):
    return json.loads(path.read_text())["ports"]


def test_a_port_is_told_with_where_it_is_reached_until_it_is_given_back(tmp_path):
    path, host = tmp_path / "ports.json", ["a"]

    async def main():
        file = PortsFile(path, "t", lambda: host[0])
        file.publish("k2", "s", [port(30005)], [Front(30001, 30005)])
        file.publish("k1", "s", [port(30003), port(30002, "tb")], [])
        await file.write()
        first = read(path)
        file.withdraw("k1", 30005)
        file.withdraw("k1", 30002)
        file.withdraw("k1", 30002)
        host[0] = "b"
        await file.write()
        return first, read(path)

    first, second = asyncio.run(main())
    told = [(row["port"], row["kernel_id"], row["service"], row["tls"]) for row in first]
    assert told == [
        (30001, "k2", "web", True),
        (30002, "k1", "tb", False),
        (30003, "k1", "web", False),
    ]
    assert [(row["port"], row["host"]) for row in second] == [(30001, "b"), (30003, "b")]


def test_what_changes_meanwhile_is_written_together(tmp_path, monkeypatch):
    monkeypatch.setattr(ports_file, "PAUSE", 0.05)
    written, loop, done = [], None, None
    replace = ports_file._replace

    def count(path, content):
        replace(path, content)
        written.append(len(content["ports"]))
        if written[-1] == 500:
            loop.call_soon_threadsafe(done.set)

    monkeypatch.setattr(ports_file, "_replace", count)

    async def main():
        nonlocal loop, done
        loop, done = asyncio.get_running_loop(), asyncio.Event()
        file = PortsFile(tmp_path / "ports.json", "t", lambda: "h")
        following = asyncio.ensure_future(file.follow())
        for number in range(30000, 30500):
            file.publish("k", "s", [port(number)], [])
            if number % 50 == 0:
                await asyncio.sleep(0)
        await asyncio.wait_for(done.wait(), 20)
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        await file.write()

    asyncio.run(main())
    assert len(written) <= 3


def test_a_place_that_cannot_be_written_is_tried_again(tmp_path):
    path = tmp_path / "missing" / "ports.json"

    async def main():
        file = PortsFile(path, "t", lambda: "h")
        file.publish("k", "s", [port(30001)], [])
        await file.write()
        path.parent.mkdir()
        await file.write()

    asyncio.run(main())
    assert [row["port"] for row in read(path)] == [30001]
