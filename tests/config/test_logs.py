from __future__ import annotations

import io
import json
import logging
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from agent_core import logs
from agent_core.config.model import LoggingSection
from agent_core.contracts.errors import InvalidConfig


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    root, ours = logging.getLogger(), logging.getLogger("agent_core")
    handlers, levels = list(root.handlers), (root.level, ours.level)
    raising = logging.raiseExceptions
    yield
    for handler in set(root.handlers) - set(handlers):
        root.removeHandler(handler)
        handler.close()
    root.setLevel(levels[0])
    ours.setLevel(levels[1])
    logging.raiseExceptions = raising
    logging.captureWarnings(False)
    structlog.reset_defaults()


def lines_of(tmp_path: Path, section: dict[str, object], *, debug: bool = False) -> list[str]:
    stream = io.StringIO()
    settings = LoggingSection.model_validate(section)
    logs.configure(settings, directory=tmp_path, debug=debug, stream=stream)
    log = structlog.get_logger("agent_core.room")
    log.debug("detail")
    log.info("ready", port=5, text="two\nlines\x1b[0m")
    logging.getLogger("other.library").info("said %d", 3, extra={"more": 1})
    return stream.getvalue().splitlines()


def test_both_ways_of_logging_come_out_alike_and_nothing_can_forge_a_line(tmp_path: Path) -> None:
    first, second = lines_of(tmp_path, {})
    assert "[info     ] ready" in first
    assert r"text=two\nlines\x1b[0m" in first.replace("'", "")
    assert "said 3" in second
    assert "more=1" in second
    assert "\x1b" not in first


def test_json_lines_are_objects(tmp_path: Path) -> None:
    lines = lines_of(tmp_path, {"console": {"format": "json"}})
    first, second = (json.loads(line) for line in lines)
    assert (first["event"], first["level"], first["logger"]) == ("ready", "info", "agent_core.room")
    assert first["port"] == 5
    assert second["event"] == "said 3"


def test_levels_of_single_loggers_are_obeyed(tmp_path: Path) -> None:
    assert len(lines_of(tmp_path, {"pkg-ns": {"": "WARNING"}})) == 1
    assert len(lines_of(tmp_path, {"level": "ERROR"})) == 0
    assert len(lines_of(tmp_path, {"pkg-ns": {"": "WARNING"}}, debug=True)) == 2


def test_colours_are_used_when_asked_for(tmp_path: Path) -> None:
    first, _ = lines_of(tmp_path, {"console": {"colored": True}})
    assert "\x1b[" in first


def test_the_file_is_rotated_at_its_size(tmp_path: Path) -> None:
    section = {"drivers": ["file"], "file": {"rotation-size": 400, "backup-count": 2}}
    logs.configure(LoggingSection.model_validate(section), directory=tmp_path / "logs")
    log = structlog.get_logger("agent_core.room")
    for number in range(40):
        log.info("a line of the log", number=number)
    names = sorted(path.name for path in (tmp_path / "logs").iterdir())
    assert names == ["agent.log", "agent.log.1", "agent.log.2"]
    assert "number=39" in (tmp_path / "logs/agent.log").read_text()


def test_a_file_that_cannot_be_opened_is_a_fault_of_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    section = {"drivers": ["file"], "file": {"path": str(tmp_path / "file/logs")}}
    with pytest.raises(InvalidConfig, match="cannot log to"):
        logs.configure(LoggingSection.model_validate(section), directory=tmp_path)


def test_tracebacks_are_logged_whole(tmp_path: Path) -> None:
    stream = io.StringIO()
    logs.configure(LoggingSection(), directory=tmp_path, stream=stream)
    try:
        raise ValueError("broken")
    except ValueError:
        structlog.get_logger("agent_core.room").exception("failed")
    assert "ValueError: broken" in stream.getvalue().splitlines()[-1]


def test_the_table_library_is_not_imported_with_the_log() -> None:
    program = (
        "import sys; from agent_core import logs; print('rich' in sys.modules);"
        "import rich; print('rich' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "False\nTrue\n", done.stderr


def test_a_simple_line_is_short_and_a_verbose_one_says_who_and_when(tmp_path: Path) -> None:
    simple = lines_of(tmp_path, {"console": {"format": "simple"}})[0]
    verbose = lines_of(tmp_path, {"console": {"format": "verbose"}})[0]
    assert re.match(r"\d\d:\d\d:\d\d ", simple)
    assert "agent_core.room" not in simple
    assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", verbose)
    assert "agent_core.room" in verbose


def test_each_driver_has_a_format_of_its_own_and_none_logs_nothing(tmp_path: Path) -> None:
    both = {"drivers": ["console", "file"], "file": {"format": "json", "filename": "a.log"}}
    assert "ready" in lines_of(tmp_path, both)[0]
    written = [json.loads(line) for line in (tmp_path / "a.log").read_text().splitlines()]
    assert [line["event"] for line in written] == ["ready", "said 3"]
    assert lines_of(tmp_path, {"drivers": ["file"]}) == []
    assert lines_of(tmp_path, {"drivers": []}) == []


def test_set_up_again_the_former_handlers_are_gone(tmp_path: Path) -> None:
    section = {"drivers": ["file"], "file": {"filename": "a.log"}}
    lines_of(tmp_path, section)
    before = (tmp_path / "a.log").read_text()
    lines_of(tmp_path, {**section, "file": {"filename": "b.log"}})
    assert (tmp_path / "a.log").read_text() == before
    assert "ready" in (tmp_path / "b.log").read_text()
