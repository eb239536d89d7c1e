"""What a simulated container does, said by its command line.

``simulate exit 3``, ``simulate signal 9``, ``simulate print TEXT``, ``simulate flood LINES``,
``simulate stay TEXT`` (exits with 7 when it is asked to end), ``simulate deaf TEXT`` (does not heed
it), ``simulate say TEXT SECONDS TEXT ...``, ``simulate env NAME`` and ``simulate missing``, which
cannot start. Any other command line, and an empty one, stays until it is ended.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from agent_core.contracts.backend import ExitStatus
from agent_core.contracts.errors import KernelFailed

PROGRAM: Final = "simulate"
_LINE: Final = 79
_MOMENT: Final = 1e-6


@dataclass(frozen=True, slots=True)
class Act:
    """What a container prints and how it ends, in seconds since its start.

    Attributes:
        prints: What it prints, and when.
        ends: When it ends by itself, and how; None when it stays.
        on_stop: Its exit code when it is asked to end; None when it does not heed that.
        starts: Whether it can be started at all.
    """

    prints: tuple[tuple[float, bytes], ...] = ()
    ends: tuple[float, ExitStatus] | None = None
    on_stop: int | None = 0
    starts: bool = True

    def printed(self, seconds: float, limit: int) -> bytes:
        """Return the last bytes of what was printed so many seconds after the start."""
        text = b"".join(said for at, said in self.prints if at <= seconds + _MOMENT)
        return text[-limit:] if limit else b""

    def next_print(self, seconds: float) -> float | None:
        """Say how many seconds after the start something more is printed."""
        return min((at for at, _ in self.prints if at > seconds), default=None)


STAYS: Final = Act()


def act_of(argv: Sequence[str], env: Mapping[str, str], cwd: str) -> Act:
    """Read a command line."""
    if len(argv) < 2 or argv[0] != PROGRAM:
        return STAYS
    make = _ACTS.get(argv[1])
    return STAYS if make is None else make(argv[2:], env, cwd)


def ending_of(argv: Sequence[str]) -> tuple[float, ExitStatus]:
    """Say after how many seconds a further command ends and how; what stays ends at once with 0.

    Raises:
        KernelFailed: when it cannot be started.
    """
    act = act_of(argv, {}, "/")
    if not act.starts:
        raise KernelFailed(f"the command {' '.join(argv)!r} is not there")
    return act.ends or _ending(0)


_Words = Sequence[str]
_Env = Mapping[str, str]


def _line(text: str) -> bytes:
    return text.encode() + b"\n"


def _ending(
    code: int | None, signal: int | None = None, at: float = 0.0
) -> tuple[float, ExitStatus]:
    return at, ExitStatus(code, signal)


def _exit(words: _Words, _env: _Env, _cwd: str) -> Act:
    return Act(ends=_ending(int(words[0])))


def _signal(words: _Words, _env: _Env, _cwd: str) -> Act:
    return Act(ends=_ending(128 + int(words[0]), int(words[0])))


def _print(words: _Words, _env: _Env, _cwd: str) -> Act:
    return Act(((0.0, _line(words[0])),), _ending(0))


def _flood(words: _Words, _env: _Env, _cwd: str) -> Act:
    lines = b"".join(b"%0*d\n" % (_LINE, number) for number in range(int(words[0])))
    return Act(((0.0, lines),), _ending(0))


def _stay(words: _Words, _env: _Env, _cwd: str) -> Act:
    return Act(((0.0, _line(words[0])),), on_stop=7)


def _deaf(words: _Words, _env: _Env, _cwd: str) -> Act:
    return Act(((0.0, _line(words[0])),), on_stop=None)


def _say(words: _Words, _env: _Env, _cwd: str) -> Act:
    at, prints = 0.0, [(0.0, _line(words[0]))]
    for pause, text in zip(words[1::2], words[2::2], strict=True):
        at += float(pause)
        prints.append((at, _line(text)))
    return Act(tuple(prints), _ending(0, at=at))


def _env_of(words: _Words, env: _Env, cwd: str) -> Act:
    return Act(((0.0, _line(f"{env.get(words[0], '')} from {cwd}")),), _ending(0))


def _missing(_words: _Words, _env: _Env, _cwd: str) -> Act:
    return Act(starts=False)


_ACTS: Final[Mapping[str, Callable[[_Words, _Env, str], Act]]] = {
    "exit": _exit,
    "signal": _signal,
    "print": _print,
    "flood": _flood,
    "stay": _stay,
    "deaf": _deaf,
    "say": _say,
    "env": _env_of,
    "missing": _missing,
}
