"""What stands between a client and an engine: it passes everything on but what a test takes over.

It runs in a thread of its own, so that a test may wait for an agent meanwhile. A test takes
requests over by their method and a pattern of their path, for as long as the rule is in force.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import tempfile
import threading
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final, Self

from aiohttp import ClientError, ClientSession, ClientTimeout, UnixConnector, web

DEADLINE: Final = 30.0

Answer = tuple[int, bytes]
Asking = Callable[[], Awaitable[Answer]]
Reply = Callable[[Asking], Awaitable[Answer | None]]
"""Given what asks the engine, says what the client is told: None breaks the connection."""

_OF_ONE_CONNECTION: Final = {"connection", "content-length", "host", "transfer-encoding"}


class Rule:
    """Says what becomes of some requests.

    Args:
        method: HTTP's.
        path: A pattern that is looked for in the path and the query.
        reply: What the client is told; by default what the engine says.
        times: How many requests it is for.
    """

    def __init__(self, method: str, path: str, reply: Reply | None, times: int) -> None:
        self._method = method
        self._path = re.compile(path)
        self._met = threading.Event()
        self._left = times
        self.reply = reply

    def takes(self, request: web.Request) -> bool:
        """Say whether it is for this request, which counts then."""
        if not self._left or not self.is_for(request):
            return False
        self._left -= 1
        self._met.set()
        return True

    def is_for(self, request: web.Request) -> bool:
        """Say whether a request is of the kind."""
        return request.method == self._method and bool(self._path.search(str(request.rel_url)))

    def await_request(self) -> None:
        """Wait until it has been met."""
        assert self._met.wait(DEADLINE), f"nobody has asked for {self._path.pattern}"

    def end(self) -> None:
        """Let further requests pass."""
        self._left = 0


class Hold(Rule):
    """Holds requests, which the engine does not hear of before they are let go."""

    def __init__(self, method: str, path: str, times: int) -> None:
        super().__init__(method, path, self._hold, times)
        self._go = threading.Event()

    async def _hold(self, ask: Asking) -> Answer:
        await asyncio.to_thread(self._go.wait)
        return await ask()

    def end(self) -> None:
        """Let them go."""
        super().end()
        self._go.set()


class Proxy:
    """Stands between one engine and whoever is told of its socket instead."""

    def __init__(self, engine) -> None:
        self._engine = engine
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._stack = AsyncExitStack()
        self._rules: list[Rule] = []
        self._open: dict[int, web.Request] = {}
        self.socket = Path(tempfile.mkdtemp(prefix="proxy-")) / "docker.sock"

    def __enter__(self) -> Self:
        self._thread.start()
        self._within(self._listen())
        return self

    def __exit__(self, *_: object) -> None:
        for rule in self._rules:
            rule.end()
        try:
            self._within(self._stack.aclose())
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()
            shutil.rmtree(self.socket.parent)

    def _within(self, work) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(DEADLINE)

    # ---- what a test says ----

    def take_over(
        self, method: str, path: str, reply: Reply | None = None, times: int = 1_000_000
    ) -> Rule:
        """Answer requests otherwise, or only await one; the last word on a request counts."""
        return self._add(Rule(method, path, reply, times))

    def hold(self, method: str, path: str, times: int = 1) -> Hold:
        """Hold requests as an engine does that hangs."""
        return self._add(Hold(method, path, times))

    def lose(self, method: str, path: str) -> Rule:
        """Break the connections of such requests, and refuse others until the rule is ended."""
        rule = self.take_over(method, path, _silence)
        self._within(self._break(rule))
        return rule

    def _add(self, rule):
        self._rules.insert(0, rule)
        return rule

    async def _break(self, rule: Rule) -> None:
        for request in filter(rule.is_for, [*self._open.values()]):
            _abort(request)

    # ---- what it does ----

    async def _listen(self) -> None:
        connector = UnixConnector(str(self._engine.socket), limit=0)
        self._session = await self._stack.enter_async_context(
            ClientSession(
                connector=connector, timeout=ClientTimeout(total=None), auto_decompress=False
            )
        )
        app = web.Application(client_max_size=0)
        app.router.add_route("*", "/{path:.*}", self._handle)
        runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await runner.setup()
        self._stack.push_async_callback(runner.cleanup)
        await web.UnixSite(runner, str(self.socket)).start()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        rule = next((rule for rule in self._rules if rule.takes(request)), None)
        if rule is None or rule.reply is None:
            return await self._pass_on(request, body)
        said = await rule.reply(lambda: self._answer(request, body))
        if said is None:
            _abort(request)
            return web.Response()
        return web.Response(status=said[0], body=said[1], content_type="application/json")

    def _ask(self, request: web.Request, body: bytes):
        address = f"http://localhost{request.rel_url}"
        headers = _of_all(request.headers)
        return self._session.request(request.method, address, data=body, headers=headers)

    async def _answer(self, request: web.Request, body: bytes) -> Answer:
        async with self._ask(request, body) as response:
            return response.status, await response.read()

    async def _pass_on(self, request: web.Request, body: bytes) -> web.StreamResponse:
        async with self._ask(request, body) as response:
            passed = web.StreamResponse(status=response.status, headers=_of_all(response.headers))
            self._open[id(request)] = request
            try:
                await passed.prepare(request)
                async for piece in response.content.iter_any():
                    await passed.write(piece)
                await passed.write_eof()
            except (ClientError, ConnectionError):
                _abort(request)  # one of the two is gone: the other one learns of it
            finally:
                del self._open[id(request)]
            return passed


def _of_all(headers) -> dict[str, str]:
    """Leave out what is said of one connection only."""
    return {key: value for key, value in headers.items() if key.lower() not in _OF_ONE_CONNECTION}


def _abort(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.abort()


async def _silence(ask: Asking) -> None:
    """Say nothing, and break the connection."""


def saying(status: int, message: str, *, done: bool = True) -> Reply:
    """Make a reply of an engine that fails, with what was asked of it done or not."""

    async def reply(ask: Asking) -> Answer:
        if done:
            await ask()
        return status, b'{"message": "%s"}' % message.encode()

    return reply


async def broken_after(ask: Asking) -> None:
    """Do what was asked, and break the connection before that is told."""
    await ask()
