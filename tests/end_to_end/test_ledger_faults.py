"""What a disk or a reboot does to the ledger of a real agent, while real kernels run."""

import contextlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import time

import pytest

from agent_core.contracts.errors import AgentError, LedgerFailed, NotFound
from agent_core.kernels.reading import RECOVERED
from agent_core.ledger import Ledger, recovery, sums

SLOTS = {"cpu": "1", "mem": "64m", "cuda.shares": "0.5"}
DEADLINE = 30.0
SIZE = 4 << 20


def until(condition):
    """Wait for what nobody tells of."""
    deadline = time.monotonic() + DEADLINE
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found


def codes(node):
    return {condition.code for condition in node.ask("get_status").conditions}


def ledger_of(node):
    return node.root / "var" / "t" / "ledger.db"


def kept(node):
    return sorted((node.root / "var" / "t").glob("damaged-*"))


def spoil(node):
    """Overwrite a part of each page of the ledger and its log: nobody could read this any more."""
    for path in ledger_of(node).parent.glob("ledger.db*"):
        data = bytearray(path.read_bytes())
        for at in range(0, len(data), 4096):
            data[at + 100 : at + 200] = os.urandom(100)
        path.write_bytes(data)


def says(node, kernel):
    return node.run(kernel, "print(6 * 7)")[0]


def recovered(node):
    return [event.data for event in node.events() if event.name == "ledger.recovered"]


# ---- damaged and lost --------------------------------------------------------------------------


def test_kernels_run_on_after_their_ledger_was_damaged_and_are_known_again(node):
    node.start()
    kernel = node.create(slots=SLOTS, env={"TOKEN": "s3cret"})
    before, used = node.ask("get_kernel_status", kernel), node.used()
    pid = node.run(kernel, "import os; print(os.getpid())")[0]
    node.end(signal.SIGKILL)
    spoil(node)
    node.start()
    after = node.ask("get_kernel_status", kernel)
    assert (after.state, after.created_at) == ("RUNNING", before.created_at)
    assert after.grants == before.grants
    assert {(h.kind, h.key) for h in after.holds} == {(h.kind, h.key) for h in before.holds}
    assert node.used() == used
    assert node.run(kernel, "import os; print(os.getpid())")[0] == pid
    (told,) = recovered(node)
    assert (told["source"], told["kernels"]) == ("nothing", [kernel])
    (directory,) = kept(node)
    assert told["kept"] == str(directory)
    assert "ledger_recovered" in codes(node)
    assert any("the ledger was lost" in text for text in node.ask("get_status").warnings)
    node.destroy(kernel)
    node.clean()


def test_a_backup_and_the_records_together_are_the_whole_ledger(node):
    node.start()
    ended, old = node.create(slots=SLOTS), node.create()
    node.destroy(ended)
    made = node.json("ledger", "backup")
    new = node.create(slots=SLOTS)
    node.destroy(old)
    node.end(signal.SIGKILL)
    spoil(node)
    node.start()
    states = {row.kernel_id: row.state for row in node.ask("list_kernels", include_ended=True)}
    assert (states[ended], states[new]) == ("TERMINATED", "RUNNING")
    assert node.ask("wait_kernel", old, ["TERMINATED"]).reason == "container-not-found"
    assert recovered(node)[0]["backup"] == made["path"]
    assert says(node, new) == "42\n"
    node.destroy(new)
    node.clean()


def test_the_agents_whole_memory_is_lost_and_it_begins_again(node):
    """The ledger, its backups and its logs: all but what the backend has."""
    node.start()
    kernel = node.create(slots=SLOTS)
    node.end()
    state = ledger_of(node).parent
    for file in [*state.glob("ledger.db*"), state / "agent.lock"]:
        file.unlink()
    shutil.rmtree(state / "backups")
    node.start()
    assert says(node, kernel) == "42\n"
    assert recovered(node)[0]["why"] == "there was no ledger"
    node.destroy(kernel)
    node.clean()


def test_a_clean_stop_leaves_a_backup_of_what_is_known_then(node):
    node.start()
    kernel = node.create()
    node.end()
    ledger_of(node).unlink()
    node.start()
    assert recovered(node)[0]["rebuilt"] == 0
    assert says(node, kernel) == "42\n"
    node.destroy(kernel)
    node.clean()


def test_a_backup_is_made_by_itself_where_something_changed(node):
    node.config.write_text(
        node.config.read_text().replace("[agent]", '[agent]\nledger-backup-interval = "100ms"', 1)
    )
    node.start()
    assert node.ask("show_ledger").last_backup is None
    kernel = node.create()
    made = until(lambda: node.ask("show_ledger").last_backup)
    assert node.json("ledger", "check", made.path)["condition"] == "sound"
    node.destroy(kernel)


WALK = [
    f"{point.name}=kill"
    for point in (
        recovery.KEEPING.after,
        recovery.MOVING.after,
        recovery.PLACING.before,
        recovery.PLACING.after,
        RECOVERED.before,
        RECOVERED.after,
    )
]


@pytest.mark.parametrize("point", WALK)
def test_a_recovery_that_is_killed_anywhere_is_finished_and_kernels_run_on(node, point):
    node.start()
    kernel = node.create(slots=SLOTS)
    used = node.used()
    node.end(signal.SIGKILL)
    spoil(node)
    node.start(ready=False, AGENT_FAILPOINTS=point)
    assert node.wait() == -signal.SIGKILL
    node.start()
    assert len(recovered(node)) == 1
    assert len(kept(node)) == 1
    assert says(node, kernel) == "42\n"
    assert node.used() == used
    node.destroy(kernel)
    node.clean()


# ---- the node was booted -----------------------------------------------------------------------


def reboot(node):
    """Let the ledger believe that it was written before the node's last boot."""
    with contextlib.closing(sqlite3.connect(ledger_of(node))) as db, db:
        db.execute("UPDATE meta SET value = 'another boot' WHERE key = 'boot_id'")
        sums.write_all(db)


def test_what_runs_is_not_ended_because_the_ledger_knows_another_boot(node):
    node.start()
    kernel = node.create(slots=SLOTS)
    epoch = node.events(kernel)[-1].id.split("-")[0]
    node.end()
    reboot(node)
    node.start()
    assert node.ask("get_kernel_status", kernel).state == "RUNNING"
    assert says(node, kernel) == "42\n"
    node.destroy(kernel)
    assert int(node.events(kernel)[-1].id.split("-")[0], 16) > int(epoch, 16)
    node.clean()


def test_a_kernel_whose_processes_went_with_the_boot_is_ended_by_it(node):
    node.start()
    kernel = node.create(slots=SLOTS)
    node.end()
    for pid in node.processes():
        os.kill(pid, signal.SIGKILL)
    until(lambda: not node.processes())
    reboot(node)
    node.start()
    row = node.ask("wait_kernel", kernel, ["TERMINATED"], timeout=30)
    assert (row.reason, row.exit_code) == ("ended-by-reboot", None)
    node.clean()


# ---- nothing can be written --------------------------------------------------------------------


@pytest.fixture
def small_disk(node):
    """The state directory of a node on a small disk of its own."""
    place = node.root / "var"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", place], check=True)
    try:
        yield place
        subprocess.run(["mount", "-o", "remount,rw", place], check=True)
        (place / "filler").unlink(missing_ok=True)
        for row in node.ask("list_kernels"):
            node.destroy(row.kernel_id)
        node.end()
    finally:
        if node.process is not None:
            node.end(signal.SIGKILL)
        subprocess.run(["umount", "--lazy", place], check=True)


def fill(place):
    """Leave not a byte."""
    with (place / "filler").open("wb", buffering=0) as file, contextlib.suppress(OSError):
        for size in (1 << 16, 4096, 1):
            with contextlib.suppress(OSError):
                while True:
                    file.write(bytes(size))


def refuse_all(node):
    """Ask for kernels until the ledger cannot take one any more; none of them comes to run."""
    for number in range(100):
        name = f"refused{number}"
        try:
            node.ask("create_kernel", {"kernel_id": name, "image": "python"})
        except LedgerFailed as exc:
            return name, exc
        with contextlib.suppress(AgentError):
            node.ask("wait_kernel", name, ["RUNNING", "TERMINATING"], timeout=5)
    raise AssertionError("the disk does not fill")


@pytest.mark.requires("tmpfs")
def test_on_a_full_disk_creates_fail_and_what_runs_goes_on_until_there_is_room_again(
    node, small_disk
):
    node.start()
    kernel = node.create()
    assert codes(node) == set()
    fill(small_disk)
    name, refusal = refuse_all(node)
    assert "full" in refusal.message
    (condition,) = (c for c in node.ask("get_status").conditions if c.code == "state_not_writable")
    assert "full" in condition.message
    assert condition.since is not None
    assert kernel in {row.kernel_id for row in node.ask("list_kernels")}
    assert says(node, kernel) == "42\n"
    with pytest.raises(NotFound):
        node.ask("get_kernel_status", name)

    (small_disk / "filler").unlink()
    until(lambda: "state_not_writable" not in codes(node))
    for row in node.ask("list_kernels"):
        if row.kernel_id != kernel:
            until(lambda r=row: node.ask("get_kernel_status", r.kernel_id).ended_at)
    assert says(node, kernel) == "42\n"
    second = node.create()
    for each in (kernel, second):
        node.destroy(each)
    node.clean()
    node.end()
    node.start()
    node.clean()


@pytest.mark.requires("tmpfs")
def test_a_destroy_on_a_full_disk_is_complete_once_there_is_room_again(node, small_disk):
    node.start()
    kernel = node.create()
    fill(small_disk)
    refuse_all(node)
    with pytest.raises(AgentError):
        node.ask("destroy_kernel", kernel, timeout=1)
    (small_disk / "filler").unlink()
    assert node.ask("wait_kernel", kernel, ["TERMINATED"], timeout=60).state == "TERMINATED"
    until(lambda: not node.ask("list_kernels"))
    node.clean()


@pytest.mark.requires("tmpfs")
def test_a_start_on_a_full_disk_says_so_and_kernels_run_on(node, small_disk):
    node.start()
    kernel = node.create()
    pid = int(node.run(kernel, "import os; print(os.getpid())")[0])
    node.end()
    fill(small_disk)
    node.start(ready=False)
    assert node.wait(deadline=10) == 1
    assert any(line.startswith("error[ledger-failed]") for line in node.log)
    os.kill(pid, 0)
    (small_disk / "filler").unlink()
    node.start()
    assert says(node, kernel) == "42\n"
    assert kept(node) == []


@pytest.mark.requires("tmpfs")
def test_a_start_on_a_read_only_disk_says_so_and_changes_nothing(node, small_disk):
    node.start()
    kernel = node.create()
    node.destroy(kernel)  # what runs has files open for writing: then it cannot become read-only
    node.clean()
    node.end()
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    node.start(ready=False)
    assert node.wait(deadline=10) == 1
    assert any("Read-only file system" in line for line in node.log)
    assert any(line.startswith("hint: ") for line in node.log)
    assert node.json("ledger", "check")["condition"] == "sound"
    subprocess.run(["mount", "-o", "remount,rw", small_disk], check=True)
    node.start()
    rows = node.ask("list_kernels", include_ended=True)
    assert [(row.kernel_id, row.state) for row in rows] == [(kernel, "TERMINATED")]


# ---- looking -----------------------------------------------------------------------------------


def snapshot(node):
    files = [path for path in ledger_of(node).parent.glob("ledger.db*") if "shm" not in path.name]
    return {path.name: path.read_bytes() for path in files}


def test_a_ledger_can_be_looked_at_while_its_agent_runs_and_while_it_does_not(node):
    node.start()
    kernel = node.create(slots=SLOTS)
    running = node.json("ledger", "check")
    assert (running["condition"], running["ok"], running["problems"]) == ("sound", True, [])
    assert running["used_by"] == node.ask("get_status").pid
    assert running["rows"]["kernels"] == 1
    shown = node.json("ledger", "show")
    assert shown["kernels"] == {"RUNNING": 1}
    assert {hold["kernel_id"] for hold in shown["holds"]} == {kernel}
    assert shown["last_backup"] is None
    assert kernel in node.agentctl("ledger", "show")
    node.end(signal.SIGKILL)
    before = snapshot(node)
    stopped = node.json("ledger", "check")
    assert (stopped["condition"], stopped["used_by"]) == ("sound", None)
    assert stopped["rows"] == running["rows"]
    assert node.json("ledger", "show") == {**shown, "size": stopped_size(before)}
    assert snapshot(node) == before
    node.start()
    node.destroy(kernel)


def stopped_size(files):
    return sum(len(data) for data in files.values())


def test_a_check_of_a_damaged_ledger_says_what_the_next_start_will_do(node):
    node.start()
    node.json("ledger", "backup")
    node.end()
    spoil(node)
    before = snapshot(node)
    found = node.json("ledger", "check", code=1)
    assert found["condition"] == "damaged"
    assert found["problems"]
    assert [backup["sound"] for backup in found["backups"]] == [True]
    assert found["backups"][0]["path"] in found["next_start"]
    assert "damaged" in node.agentctl("ledger", "check", code=1)
    assert "damaged" in node.agentctl("ledger", "show", code=1)
    assert snapshot(node) == before
    assert kept(node) == []


def test_a_backup_goes_where_it_is_wanted_and_replaces_nothing(node, tmp_path):
    node.start()
    target = tmp_path / "copy.db"
    made = node.json("ledger", "backup", "--to", str(target))
    assert made["path"] == str(target)
    assert node.json("ledger", "check", str(target))["condition"] == "sound"
    refused = json.loads(node.agentctl("ledger", "backup", "--to", str(target), "--json", code=1))
    assert refused["error"]["code"] == "conflict"
    other = tmp_path / "other.db"
    shutil.copy(target, other)
    ledger = Ledger(other)
    ledger.open()
    ledger.close()
    assert ledger.recovery is None
