"""The tail of a write-ahead log: SQLite passes over what it cannot read there, and says nothing.

A transaction is acknowledged once its frames are in the log and on the disk. Where a later frame of
the same generation stands behind the last one that SQLite accepted, something that was
acknowledged may be lost. A crash in the middle of writing one transaction looks the same; then
nothing is lost, and nobody can tell.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_HEADER: Final = struct.Struct(">8I")
_FRAME: Final = struct.Struct(">6I")
_MAGIC: Final = 0x377F0682
_INDEX: Final = 40
"""Bytes at the beginning of the index that are read here."""
_VALID_FRAMES: Final = 16
"""Where the index has the number of frames that were accepted."""
_WORD: Final = 0xFFFFFFFF


def unread_tail(database: Path) -> str:
    """Say what of the log of a database cannot be read; nothing when all of it can.

    Call it while a connection holds a read transaction: the log's index is made by the first.
    """
    log = Path(f"{database}-wal")
    if not log.exists() or not log.stat().st_size:
        return ""
    with log.open("rb") as file:
        header = file.read(_HEADER.size)
        if not _is_header(header):
            return "its write-ahead log does not begin as one"
        _, _, page, _, *salts, _, _ = _HEADER.unpack(header)
        file.seek(_HEADER.size + _accepted(database) * (_FRAME.size + page))
        for frame in iter(lambda: file.read(_FRAME.size + page), b""):
            # A piece of a frame's header is never written; an older generation's frames may follow.
            if len(frame) < _FRAME.size or [*_FRAME.unpack_from(frame)[2:4]] == salts:
                return "the last transactions of its write-ahead log cannot be read"
    return ""


def _accepted(database: Path) -> int:
    index = Path(f"{database}-shm")
    head = b""
    if index.exists():
        with index.open("rb") as file:
            head = file.read(_INDEX)
    return int.from_bytes(head[_VALID_FRAMES : _VALID_FRAMES + 4], "little") if head else 0


def _is_header(header: bytes) -> bool:
    if len(header) < _HEADER.size:
        return False
    magic, _, _, _, _, _, *expected = _HEADER.unpack(header)
    return magic & ~1 == _MAGIC and [*_checksum(header[:24], big=bool(magic & 1))] == expected


def _checksum(data: bytes, *, big: bool) -> Iterator[int]:
    first = second = 0
    for low, high in struct.iter_unpack(">II" if big else "<II", data):
        first = (first + low + second) & _WORD
        second = (second + high + first) & _WORD
    yield from (first, second)
