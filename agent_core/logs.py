"""Logging: structlog over the standard library's, to the console and to a rotated file."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, TextIO

from agent_core.contracts.errors import InvalidConfig

if TYPE_CHECKING:
    from structlog.typing import EventDict, Processor, WrappedLogger

    from agent_core.config.model import FileLogSection, LoggingSection


@contextmanager
def _unseen(package: str) -> Iterator[None]:
    """Let an optional import of a package fail while something else is imported."""
    if package in sys.modules:
        yield
        return
    sys.modules[package] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[package]


# structlog imports rich, where it is installed, for tracebacks that we do not use: that would take
# a quarter of the time in which an agent has to answer its first call.
with _unseen("rich"):
    import structlog

_CONTROL: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f]")
_UNTOUCHED: Final = frozenset({"exception", "stack", "exc_info"})
_OURS: Final = "agent_core"


def configure(
    settings: LoggingSection,
    *,
    directory: Path,
    debug: bool = False,
    stream: TextIO | None = None,
) -> None:
    """Set logging up as ``[logging]`` says; calling it again replaces what it set up before.

    Args:
        settings: The section.
        directory: Where the log file lies unless the section says otherwise.
        debug: Log everything that agent-core has to say.
        stream: The console; by default the standard error.

    Raises:
        InvalidConfig: when the log file cannot be opened.
    """
    handlers: list[logging.Handler] = []
    if "file" in settings.drivers:
        handlers.append(_file_handler(settings.file, settings.file.path or directory))
    if "console" in settings.drivers:
        console = sys.stderr if stream is None else stream
        handlers.append(_console_handler(settings, console))
    _install(handlers)
    _set_levels(settings, debug=debug)
    logging.captureWarnings(capture=True)
    # A reader of the log that went away must not become a flood of tracebacks.
    logging.raiseExceptions = debug
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_shared(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


def _shared() -> list[Processor]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.StackInfoRenderer(),
    ]


def _console_handler(settings: LoggingSection, stream: TextIO) -> logging.Handler:
    colored = settings.console.colored
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        _formatter(settings.console.format, colors=stream.isatty() if colored is None else colored)
    )
    return handler


def _file_handler(settings: FileLogSection, directory: Path) -> logging.Handler:
    from logging.handlers import RotatingFileHandler

    path = directory / settings.filename
    try:
        directory.mkdir(parents=True, exist_ok=True)
        handler = RotatingFileHandler(
            path,
            maxBytes=settings.rotation_size,
            backupCount=settings.backup_count,
            encoding="utf-8",
        )
    except OSError as exc:
        raise InvalidConfig(
            f"cannot log to {path}: {exc.strerror}",
            hint="Set [logging.file] path to a directory that the agent can write.",
        ) from exc
    handler.setFormatter(_formatter(settings.format, colors=False))
    return handler


def _formatter(form: str, *, colors: bool) -> logging.Formatter:
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[*_shared(), structlog.stdlib.ExtraAdder()],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            *_rendering(form, colors=colors),
        ],
    )


def _rendering(form: str, *, colors: bool) -> Sequence[Processor]:
    stamp = structlog.processors.TimeStamper
    if form == "json":
        return [
            stamp(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ]
    console = structlog.dev.ConsoleRenderer(
        colors=colors, exception_formatter=structlog.dev.plain_traceback
    )
    if form == "verbose":
        return [stamp(fmt="iso", utc=False), _printable, console]
    return [stamp(fmt="%H:%M:%S", utc=False), _without_logger, _printable, console]


def _without_logger(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    event.pop("logger", None)
    return event


def _printable(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """Escape control characters: what a plugin or a kernel says must not forge a line."""
    for key, value in event.items():
        if isinstance(value, str) and key not in _UNTOUCHED:
            event[key] = _CONTROL.sub(lambda match: repr(match.group())[1:-1], value)
    return event


def _install(handlers: Sequence[logging.Handler]) -> None:
    root = logging.getLogger()
    for handler in list(root.handlers):
        if isinstance(handler.formatter, structlog.stdlib.ProcessorFormatter):
            root.removeHandler(handler)
            handler.close()
    for handler in handlers:
        root.addHandler(handler)


def _set_levels(settings: LoggingSection, *, debug: bool) -> None:
    logging.getLogger().setLevel(settings.pkg_ns.get("", settings.level))
    logging.getLogger(_OURS).setLevel("DEBUG" if debug else settings.level)
    for name, wanted in settings.pkg_ns.items():
        if name:
            logging.getLogger(name).setLevel(wanted)
