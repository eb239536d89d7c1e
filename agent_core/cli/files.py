"""Files of kernels: copied in and out, and listed; kernels committed to images."""

from __future__ import annotations

import asyncio
import contextlib
import io
import posixpath
import shutil
import stat
import sys
import tarfile
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

import click

from agent_core.cli.options import AgentCommand, current
from agent_core.cli.output import moment, plain, print_fields, print_json, print_rows, shown, size

if TYPE_CHECKING:
    from agent_core.client.client import AgentClient

_STANDARD: Final = "-"
_CHUNK: Final = 256 << 10
_SPOOLED: Final = 8 << 20
_WAITING: Final = 4
_LOOK: Final = 0.5
"""Seconds between two looks at how far a commit is."""


@click.command(
    "cp",
    cls=AgentCommand,
    examples="""
        agentctl cp model.bin KERNEL:/home/work/
        agentctl cp KERNEL:/home/work/results ./results
        agentctl cp KERNEL:/home/work/log.txt - | tail
    """,
)
@click.argument("source", metavar="SRC")
@click.argument("target", metavar="DST")
def copy(source: str, target: str) -> None:
    """Copy a file or a directory into a kernel or out of it; kernels are named as ID:PATH.

    As SRC a dash is what standard input has, for one file; as DST it is standard output, for a file
    as it is and for a directory as a tar archive.
    """
    inward, outward = _kernel_path(target), _kernel_path(source)
    if (inward is None) == (outward is None):
        raise click.UsageError("one of the two is a path in a kernel, written as ID:PATH")
    if inward is not None:
        _say(source, target, _copy_in(source, *inward))
    elif outward is not None:
        received = _copy_out(*outward, target)
        if target != _STANDARD:
            _say(source, target, received)


def _copy_in(source: str, kernel_id: str, path: str) -> int:
    from agent_core.cli.connection import ask

    if source != _STANDARD:
        if not Path(source).exists():
            raise click.UsageError(f"cannot read {source}: no such file or directory")
        return ask(lambda agent: _upload(agent, Path(source), kernel_id, path))
    if path.endswith("/"):
        raise click.UsageError(f"what standard input has needs a name: {path}NAME")
    # The size of a file comes before it in a tar: it has to be known.
    with tempfile.SpooledTemporaryFile(_SPOOLED) as kept:
        shutil.copyfileobj(sys.stdin.buffer, kept)
        return ask(lambda agent: _upload(agent, kept, kernel_id, path))


def _copy_out(kernel_id: str, path: str, target: str) -> int:
    from agent_core.cli.connection import ask

    return ask(lambda agent: _download(agent, kernel_id, path, target))


def _kernel_path(text: str) -> tuple[str, str] | None:
    """Tell a path in a kernel from one of this machine, as scp does: a slash before a colon."""
    kernel_id, colon, path = text.partition(":")
    return (kernel_id, path) if colon and kernel_id and "/" not in kernel_id and path else None


async def _upload(agent: AgentClient, source: Path | IO[bytes], kernel_id: str, path: str) -> int:
    into, name = posixpath.split(path)
    if not name and isinstance(source, Path):
        into, name = path, source.name
    handing = _Handing(asyncio.get_running_loop())
    packing = asyncio.ensure_future(asyncio.to_thread(_pack, source, name, handing))
    try:
        pieces = handing.pieces(packing)
        await agent.upload_file(kernel_id, into or ".", pieces, timeout=None)
        return await packing
    except OSError as exc:
        raise click.ClickException(f"cannot read {source}: {exc.strerror or exc}") from exc
    finally:
        # The thread waits for room where the upload has failed: it must not wait for ever.
        handing.stop()
        await asyncio.gather(packing, return_exceptions=True)


class _Handing(io.RawIOBase):
    """A file that hands what a thread writes to the loop, and waits where that has enough."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._chunks: asyncio.Queue[bytes | None] = asyncio.Queue(_WAITING)
        self._stopped = False

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        piece = bytes(data)  # type: ignore[call-overload]
        self.hand(piece)
        return len(piece)

    def hand(self, piece: bytes | None) -> None:
        """Hand a piece over, from the thread; None is the end."""
        if self._stopped:
            raise BrokenPipeError("nobody takes it any more")
        asyncio.run_coroutine_threadsafe(self._chunks.put(piece), self._loop).result()

    async def pieces(self, packing: asyncio.Future[int]) -> AsyncIterator[bytes]:
        """Yield what is handed over; what could not be packed whole is no upload."""
        while (piece := await self._chunks.get()) is not None:
            yield piece
        await packing

    def stop(self) -> None:
        """Take nothing more; whoever waits for room goes on, and is told so."""
        self._stopped = True
        while not self._chunks.empty():
            self._chunks.get_nowait()


def _pack(source: Path | IO[bytes], name: str, into: _Handing) -> int:
    """Pack a file or a directory; returns how many bytes of files there are."""
    try:
        with tarfile.open(fileobj=into, mode="w|", bufsize=_CHUNK) as archive:
            if isinstance(source, Path):
                archive.add(source, arcname=name)
            else:
                _add(archive, source, name)
            return sum(member.size for member in archive.getmembers())
    finally:
        with contextlib.suppress(BrokenPipeError):
            into.hand(None)


def _add(archive: tarfile.TarFile, content: IO[bytes], name: str) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mtime = content.seek(0, io.SEEK_END), int(time.time())
    content.seek(0)
    archive.addfile(entry, content)


async def _download(agent: AgentClient, kernel_id: str, path: str, target: str) -> int:
    # A tar is unpacked by a thread: it is kept in between, on the disk where it is large.
    with tempfile.SpooledTemporaryFile(_SPOOLED) as buffer:
        async for data in agent.download_file(kernel_id, path):
            buffer.write(data)
        buffer.seek(0)
        if target == _STANDARD:
            return _write_out(buffer)
        return await asyncio.to_thread(_unpack, buffer, Path(target))


def _write_out(archive: IO[bytes]) -> int:
    """Write the only file to standard output, or else the archive as it came."""
    with tarfile.open(fileobj=archive) as tar:
        content = _only_file(tar)
        if content is None:
            if sys.stdout.isatty():
                raise click.UsageError("a directory comes as a tar archive: not to a terminal")
            content = archive
            content.seek(0)
        shutil.copyfileobj(content, sys.stdout.buffer)
        sys.stdout.buffer.flush()
        return sum(member.size for member in tar.getmembers())


def _unpack(archive: IO[bytes], target: Path) -> int:
    """Unpack safely: nothing leads out of the target, whatever the kernel has sent.

    Returns how many bytes of files there are.
    """
    with tarfile.open(fileobj=archive) as tar:
        content = None if target.is_dir() else _only_file(tar)
        if content is not None:
            with target.open("wb") as file:
                shutil.copyfileobj(content, file)
        else:
            target.mkdir(parents=True, exist_ok=True)
            tar.extractall(target, filter="data")
        return sum(member.size for member in tar.getmembers())


def _only_file(tar: tarfile.TarFile) -> IO[bytes] | None:
    """Open the file that was asked for; None where it was a directory."""
    members = tar.getmembers()
    single = len(members) == 1 and members[0].isfile() and "/" not in members[0].name
    return tar.extractfile(members[0]) if single else None


def _say(source: str, target: str, count: int) -> None:
    if current().json:
        print_json({"source": source, "target": target, "bytes": count})
    else:
        click.echo(f"{shown(source)} -> {shown(target)}: {size(count)}")


def show_files(kernel_id: str, path: str) -> None:
    """List a directory of a kernel."""
    from agent_core.cli.connection import ask

    rows = [plain(row) for row in ask(lambda agent: agent.list_files(kernel_id, path))]
    if not current().json:
        rows = [
            {
                **row,
                "mode": stat.filemode(row["mode"])[1:],
                "size": size(row["size"]),
                "mtime": moment(row["mtime"]),
            }
            for row in rows
        ]
    columns = {"NAME": "name", "KIND": "kind", "MODE": "mode", "SIZE": "size", "CHANGED": "mtime"}
    print_rows(rows, columns, empty="the directory is empty")


def commit(kernel_id: str, image: str | None, archive: str) -> None:
    """Commit a kernel to an image, or without one show what became of the last commit."""
    from agent_core.cli.connection import ask

    async def work(agent: AgentClient) -> object:
        if image is None:
            return await agent.get_commit_status(kernel_id)
        committing = asyncio.ensure_future(agent.commit_kernel(kernel_id, image, archive))
        while sys.stderr.isatty() and not current().json:
            done, _ = await asyncio.wait({committing}, timeout=_LOOK)
            if done:
                click.echo("\r\x1b[K", nl=False, err=True)
                break
            written = (await agent.get_commit_status(kernel_id)).written
            click.echo(f"\r\x1b[Kcommitting, {size(written)} written", nl=False, err=True)
        return await committing

    state = plain(ask(work))  # type: ignore[arg-type]
    if current().json:
        print_json(state)
    else:
        times = {key: moment(state[key]) for key in ("began_at", "ended_at")}
        print_fields({**state, **times})
