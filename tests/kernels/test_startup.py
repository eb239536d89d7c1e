"""What a kernel does by itself: how it is asked for, and how it ends with its startup command."""

import asyncio
import itertools
import json
import stat
from pathlib import Path

import pytest

from agent_core.contracts.errors import (
    InvalidArgument,
    InvalidSpec,
    PluginTimeout,
    RunnerUnavailable,
)
from agent_core.contracts.runner import RunStatus
from agent_core.kernels.assembly import Assembly
from agent_core.kernels.batch import ending_of, refuse_own, startup_of
from agent_core.kernels.files.home import put_home
from agent_core.kernels.records import read_record, record_of
from agent_core.kernels.sessions import place
from agent_core.kernels.spec import Faults, read_spec
from agent_core.kernels.startup import LARGEST
from agent_core.kernels.states import Reason
from agent_core.kernels.user import OWN
from agent_core.ledger import KernelRow
from agent_core.wire.models import RunResult

BATCH = {"image": "i", "kernel_id": "k", "startup_command": "make", "startup_timeout": 60}


@pytest.mark.parametrize(
    ("data", "part"),
    [
        ({"startup_command": 5}, "startup_command: not a text with something in it"),
        ({"startup_command": "  "}, "startup_command: not a text with something in it"),
        ({"startup_command": "a\0b"}, "startup_command: has a NUL character"),
        ({"startup_command": "\ud800"}, "startup_command: has a character that is none"),
        ({"startup_command": "x" * (LARGEST + 1)}, "startup_command: larger than 64 KiB"),
        ({"bootstrap_script": "é" * LARGEST}, "bootstrap_script: larger than 64 KiB"),
        ({"bootstrap_script": ["a"]}, "bootstrap_script: not a text with something in it"),
        ({"startup_command": "x", "startup_timeout": "5"}, "'5' is not a number of seconds"),
        ({"startup_command": "x", "startup_timeout": True}, "True is not a number of seconds"),
        ({"startup_command": "x", "startup_timeout": 0}, "0 is not between 0 and"),
        ({"startup_command": "x", "startup_timeout": float("nan")}, "nan is not between 0 and"),
        ({"startup_timeout": 5}, "there is no startup_command that it could bound"),
        (
            {"bootstrap_script": "x", "dotfiles": [{"path": "bootstrap.sh", "data": ""}]},
            "bootstrap.sh is where the bootstrap_script is",
        ),
    ],
)
def test_each_fault_is_named(data, part):
    faults = Faults()
    read_spec({"image": "i", **data}, faults)
    assert len(faults.errors) == 1
    assert part in faults.errors[0].message


def test_a_specification_keeps_what_was_asked_and_one_without_is_as_it_was():
    faults = Faults()
    spec = read_spec({**BATCH, "bootstrap_script": "echo hello\n"}, faults)
    assert faults.errors == []
    assert (spec.startup.command, spec.startup.timeout) == ("make", 60.0)
    again = read_spec(json.loads(json.dumps(spec.to_data())), faults)
    assert again == spec
    assert again.digest == spec.digest
    plain = read_spec({"image": "i", "kernel_id": "k"}, faults)
    assert not {"startup_command", "startup_timeout", "bootstrap_script"} & {*plain.to_data()}
    assert plain.digest != spec.digest


def test_the_bootstrap_script_is_a_program_in_the_work_directory_and_stays_as_the_user_left_it(
    tmp_path,
):
    spec = read_spec({"image": "i", "bootstrap_script": "echo 1\n"}, Faults())
    assert list(put_home(tmp_path, spec, None, OWN)) == []
    script = tmp_path / "bootstrap.sh"
    assert stat.S_IMODE(script.stat().st_mode) == 0o700
    script.write_text("echo mine\n")
    assert list(put_home(tmp_path, spec, None, OWN)) == []
    assert script.read_text() == "echo mine\n"


def test_a_containers_record_has_the_command_and_none_of_what_may_be_secret():
    data = {**BATCH, "bootstrap_script": "export A=s3cret", "env": {"A": "s3cret"}}
    data["dotfiles"] = [{"path": ".netrc", "data": "s3cret"}]
    spec = read_spec(data, Faults()).to_data()
    row = KernelRow("k", "s", "RUNNING", spec, "d", 1.0, container="t.k.1.main.0")
    record = record_of(row, [])
    assert "s3cret" not in json.dumps(record)
    assert read_record(record).row.spec["startup_command"] == "make"


@pytest.mark.parametrize(
    ("status", "code", "reason", "words"),
    [
        (RunStatus.FINISHED, 0, Reason.TASK_FINISHED, "ended with exit code 0"),
        (RunStatus.FINISHED, 3, Reason.TASK_FAILED, "ended with exit code 3"),
        (RunStatus.FINISHED, None, Reason.TASK_FAILED, "ended with exit code None"),
        (RunStatus.TIMEOUT, 143, Reason.TASK_TIMEOUT, "was ended after 60 s"),
        (RunStatus.INTERRUPTED, 130, Reason.TASK_CANCELLED, "was interrupted"),
        (RunStatus.CANCELLED, None, Reason.TASK_CANCELLED, "was cancelled"),
        (RunStatus.LOST, None, Reason.TASK_FAILED, "died under it"),
    ],
)
def test_a_kernel_ends_as_its_startup_command_did(status, code, reason, words):
    spec = read_spec(BATCH, Faults())
    ending = ending_of(RunResult(run_id="batch-job", status=status.value, exit_code=code), spec)
    assert ending.reason == reason
    assert ending.message is not None
    assert words in ending.message
    assert (ending.exit and ending.exit.code) == code


def test_each_status_of_a_run_has_a_reason():
    spec = read_spec(BATCH, Faults())
    for status in RunStatus:
        result = RunResult(run_id="batch-job", status=status.value, exit_code=1)
        assert ending_of(result, spec).reason.startswith("task-")


def test_no_caller_can_run_code_under_the_ids_of_startup_commands():
    for run_id in ("batch-job", "batch-job.2"):
        with pytest.raises(InvalidArgument, match="is of the agent's own"):
            refuse_own(run_id)
    refuse_own("batch-jobs")


def test_a_session_has_one_startup_command_at_the_most():
    specs = [{"image": "i", "startup_command": "a"}, {"image": "i"}]
    assert [spec.get("startup_command") for spec in place("s", specs)] == ["a", None]
    with pytest.raises(InvalidSpec, match="more than one has a startup_command"):
        place("s", [specs[0], specs[0]])


class Failing:
    """Runs code that fails in ways that are no end of the kernel, before it has a result."""

    def __init__(self, *errors):
        self.errors = [*errors]
        self.detached = False

    async def execute(self, params):
        if self.errors:
            raise self.errors.pop(0)
        yield RunResult(run_id=params.run_id, status="finished", exit_code=0)

    def detach(self):
        self.detached = True


def test_a_batch_is_asked_for_again_whatever_kept_it_from_being_told():
    errors = (RunnerUnavailable("away"), PluginTimeout("late"), RuntimeError("a defect"))
    runs, told = Failing(*errors), []
    build = Assembly(read_spec(BATCH, Faults()), 1, "t.k.1.main.0", Path("/run/k"), runs=runs)

    async def body():
        ended = asyncio.Event()

        async def together():
            told.append("together")

        def post(ending):
            told.append(ending.reason)
            ended.set()

        async with asyncio.timeout(10), startup_of(build, together, post, itertools.repeat(0)):
            await ended.wait()

    asyncio.run(body())
    assert told == ["together", Reason.TASK_FINISHED]
    assert (runs.errors, runs.detached) == ([], True)
