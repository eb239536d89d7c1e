"""One run of code: its output to the right place, its questions answered, Ctrl-C passed on."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import threading
from collections.abc import Coroutine
from contextlib import aclosing
from secrets import token_hex
from typing import Any, Final, Literal

import click

from agent_core.cli.output import print_json_line
from agent_core.client.client import AgentClient
from agent_core.contracts.errors import AgentError
from agent_core.wire.models import OutputItem, RunResult

INTERRUPTED: Final = 130

_TEXTUAL: Final = ("text/", "application/javascript", "application/json")
_TEXT_ENDS: Final = ("+json", "+xml")
"""By their beginnings and ends, the types of media that are not in base64."""

_ENDINGS: Final = {
    "exec-timeout": "it ran longer than --timeout allows",
    "lost": "what ran it has ended",
}
"""For each way in which a run ends early, what to tell people."""


class Run:
    """Runs one piece of code in a kernel and shows what comes of it.

    Args:
        agent: The connected client.
        kernel_id: The kernel, or a unique prefix of its id.
        as_json: Whether to print every item as one JSON object in a line.
    """

    def __init__(self, agent: AgentClient, kernel_id: str, *, as_json: bool) -> None:
        self._agent = agent
        self._kernel_id = kernel_id
        self._as_json = as_json
        self._run_id = token_hex(8)
        self._tasks: set[asyncio.Task[None]] = set()
        self._interrupts = 0

    async def run(self, code: str, mode: Literal["query", "batch"], timeout: float | None) -> int:
        """Run it to its end; returns the exit code of this command.

        Raises:
            AgentError: when the kernel cannot run it.
        """
        loop = asyncio.get_running_loop()
        own = asyncio.current_task()
        loop.add_signal_handler(signal.SIGINT, self._interrupted, own)
        terminal = _terminal_settings()
        try:
            return await self._consume(code, mode, timeout)
        except asyncio.CancelledError:
            if self._interrupts:
                click.echo("left; the kernel ends the run, by force where it must", err=True)
                return INTERRUPTED
            raise
        finally:
            _restore_terminal(terminal)
            loop.remove_signal_handler(signal.SIGINT)
            for task in self._tasks:
                task.cancel()

    async def _consume(
        self, code: str, mode: Literal["query", "batch"], seconds: float | None
    ) -> int:
        items = self._agent.execute_code(
            self._kernel_id, code, mode=mode, run_id=self._run_id, timeout=seconds
        )
        async with aclosing(items):
            async for item in items:
                if isinstance(item, RunResult):
                    return self._ended(item)
                self._show(item)
        return 1

    def _ended(self, result: RunResult) -> int:
        if self._as_json:
            print_json_line({"type": "result", **result.model_dump(mode="json")})
        elif result.status != "finished":
            why = _ENDINGS.get(result.status)
            click.echo(f"the run ended: {result.status}{f' ({why})' if why else ''}", err=True)
        elif result.exit_code not in {0, 1, None}:
            # This command's own exit codes leave no room for it.
            click.echo(f"the run ended with exit code {result.exit_code}", err=True)
        if self._interrupts:
            return INTERRUPTED
        return 0 if result.status == "finished" and result.exit_code == 0 else 1

    def _show(self, item: OutputItem) -> None:
        if self._as_json:
            fields = item.model_dump(mode="json", exclude={"kind"}, exclude_none=True)
            print_json_line({"type": item.kind, **fields})
        elif item.kind == "output":
            click.echo(item.text or "", nl=False, err=item.stream == "stderr")
        elif item.kind in {"media", "html"}:
            _show_rich(item)
        elif item.kind == "truncated":
            click.echo(f"[{item.bytes} bytes of output were dropped]", err=True)
        if item.kind == "waiting-input":
            self._start(self._answer(item.prompt or "", hidden=bool(item.password)))

    # ---- questions ----

    async def _answer(self, prompt: str, *, hidden: bool) -> None:
        line = await _read_line("" if self._as_json else prompt, hidden=hidden)
        # The run may have ended meanwhile, which the stream tells better than an error would.
        with contextlib.suppress(AgentError):
            if line is None:
                click.echo("\nthe code asks for input, and there is none", err=True)
                await self._agent.interrupt_kernel(self._kernel_id, self._run_id)
            else:
                await self._agent.send_input(self._kernel_id, self._run_id, line)

    # ---- interrupts ----

    def _interrupted(self, own: asyncio.Task[object] | None) -> None:
        self._interrupts += 1
        if self._interrupts == 1:
            self._start(self._interrupt())
        elif own is not None:
            own.cancel()

    async def _interrupt(self) -> None:
        with contextlib.suppress(AgentError):
            await self._agent.interrupt_kernel(self._kernel_id, self._run_id)

    def _start(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _show_rich(item: OutputItem) -> None:
    """Show the text that stands in the place of what a terminal cannot show, and what it was."""
    if item.alt:
        click.echo(item.alt)
    mime, data = item.mime or "text/html", item.data or item.text or ""
    size = len(data.encode())
    if item.mime and not item.mime.startswith(_TEXTUAL) and not item.mime.endswith(_TEXT_ENDS):
        size = len("".join(data.split()).rstrip("=")) * 3 // 4  # it is in base64
    click.echo(f"[{mime}, {size} bytes]", err=True)


def _terminal_settings() -> list[Any] | None:
    """Remember how the terminal is set; None where there is none."""
    if not sys.stdin.isatty():
        return None
    import termios

    return termios.tcgetattr(sys.stdin.fileno())


def _restore_terminal(settings: list[Any] | None) -> None:
    """Set the terminal as it was: a hidden question that is left unanswered would keep it mute."""
    if settings is not None:
        import termios

        with contextlib.suppress(termios.error):
            termios.tcsetattr(sys.stdin.fileno(), termios.TCSADRAIN, settings)


async def _read_line(prompt: str, *, hidden: bool) -> str | None:
    """Read a line of the standard input without its end; None at the end of the input."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[str | None] = loop.create_future()

    def settle(line: str | None) -> None:
        if not answer.done():
            answer.set_result(line)

    def read() -> None:
        line = _blocking_line(prompt, hidden=hidden)
        with contextlib.suppress(RuntimeError):  # the loop has ended: nobody waits any more
            loop.call_soon_threadsafe(settle, line)

    # A daemon: a person who never answers must not keep the command from ending.
    threading.Thread(target=read, name="standard input", daemon=True).start()
    return await answer


def _blocking_line(prompt: str, *, hidden: bool) -> str | None:
    if hidden and sys.stdin.isatty():
        from getpass import getpass

        try:
            return getpass(prompt)
        except EOFError:
            return None
    sys.stdout.write(prompt)
    sys.stdout.flush()
    line = sys.stdin.readline()
    return line.removesuffix("\n") if line else None
