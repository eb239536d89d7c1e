"""A real agent on a simulated node: its sessions cut short on a bad day, and what it offers."""

import asyncio
import io
import json
import signal
import tarfile

import pytest

from agent_core.client import AgentClient
from agent_core.contracts.errors import (
    AgentError,
    Conflict,
    ImageNotFound,
    KernelFailed,
    NotFound,
    Unsupported,
)

from .crash import PHASES
from .session_life import Session, first
from .test_crash_walk import declared, label_of  # noqa: F401 - a fixture
from .test_services import until

NODE = """
[agent.intrinsic.cpu]
core-indexes = [0, 1, 2, 3, 4, 5, 6, 7]
[agent.intrinsic.memory]
size = "64G"
[agent.image.already-have]
"python" = ""
[agent.image]
need-to-pull = ["big:1"]
missing = ["gone:1"]
[plugin.dummy]
seed = 1
"""

BAD_DAY = """
[[plugin.dummy.fault]]
step = "event"
action = "duplicate"
probability = 0.5
[[plugin.dummy.fault]]
step = "event"
action = "lose"
probability = 0.2
[[plugin.dummy.fault]]
step = "stop"
action = "fail"
times = 1
[[plugin.dummy.fault]]
step = "remove"
action = "fail"
when = "after"
times = 1
[[plugin.dummy.fault]]
step = "remove-network"
action = "fail"
times = 1
[[plugin.dummy.fault]]
step = "list"
action = "fail"
nth = 2
[[plugin.dummy.fault]]
step = "inspect"
action = "slow"
seconds = [0.0, 0.01]
probability = 0.3
"""
"""Faults of the runtime that an agent has to survive without anybody noticing."""

SPEC = {"image": "python", "slots": {"cpu": "1", "mem": "64m", "cuda.shares": "0.5"}}
OURS = {"network-create", "network-remove", "use-dropped"}
"""Points that only kernels which share something pass."""


@pytest.fixture
def dummy(nodes, monkeypatch):
    monkeypatch.setenv("AGENT_AGENT__BACKEND", "dummy")

    def make(text=""):
        node = nodes()
        node.configure(NODE + text)
        return node

    return make


# ---- a session that is cut short ----


@pytest.mark.timeout(600)
@pytest.mark.parametrize("phase", PHASES)
def test_a_session_that_is_cut_short_on_a_bad_day_is_whole_or_undone(
    dummy, tmp_path, phase, capsys
):
    session = Session(dummy(BAD_DAY), tmp_path / "trace", SPEC)
    points = first(session.points(phase))
    for point in points:
        session.crash(point, phase)
        session.node.start()
        session.check(point)
        session.node.end(signal.SIGKILL)
    with capsys.disabled():
        print(f"\n  walk on dummy: {phase}: killed at {len(points)} points of a session")  # noqa: T201
    session.node.start()
    passed = {label_of(point.name) for point in points}
    wanted = {"create": {"network-create"}, "destroy": {"network-remove", "use-dropped"}}
    assert wanted.get(phase, set()) <= passed


# ---- what a simulated node is ----


def test_the_node_is_the_one_of_the_file_and_nothing_of_it_is_on_the_disk(dummy):
    node = dummy().start()
    totals = {row.slot: row.total for row in node.ask("list_slots")}
    assert (totals["cpu"], totals["mem"]) == ("8", str(64 << 30))
    assert "simulated" in node.ask("get_status").isolation
    kernel = node.create(slots={"cpu": "8", "mem": "60g"})
    assert node.left() == []
    shown = node.ask("get_kernel_status", kernel)
    assert shown.usage == []
    assert node.run(kernel, "1 / 0")[2].status == "finished"
    node.destroy(kernel)
    node.clean()


def test_kernels_stay_whatever_becomes_of_the_agent(dummy):
    node = dummy().start()
    kernels = [node.create(kernel_id=f"k{n}", slots={"mem": "1m"}) for n in range(5)]
    node.end(signal.SIGKILL)
    node.start()
    rows = {row.kernel_id: row.state for row in node.ask("list_kernels")}
    assert rows == dict.fromkeys(kernels, "RUNNING")
    node.ask("call_backend", "exit-container", {"container": "k3", "oom": True})
    row = node.ask("wait_kernel", "k3", ["TERMINATED"], timeout=30)
    assert (row.reason, row.exit_code) == ("oom", 137)


def test_a_node_with_sockets_for_each_kernel_does_the_same(dummy):
    node = dummy("[kernel]\nuse-fake-code-runner = false\n").start()
    kernel = node.create()
    assert node.run(kernel, "x")[2].exit_code == 0
    node.end(signal.SIGKILL)
    node.start()
    assert node.run(kernel, "x")[2].exit_code == 0


def test_two_simulated_nodes_on_one_machine_know_nothing_of_each_other(dummy, nodes):
    one, two = dummy().start(), nodes(agent="u")
    two.configure(NODE)
    two.start()
    one.create(kernel_id="k")
    assert two.ask("list_kernels") == []
    two.create(kernel_id="k")
    one.destroy("k")
    assert [row.kernel_id for row in two.ask("list_kernels")] == ["k"]


def test_the_second_agent_of_one_state_is_refused_by_name(dummy):
    node = dummy().start()
    said = node.agentctl("serve", code=1)
    assert str(node.state) in said


# ---- images, files, commits, services ----


def test_an_image_is_pulled_where_it_is_missing_and_refused_where_nobody_has_it(dummy):
    node = dummy("[agent.delay]\npull-image = 0.05\n").start()
    refused = node.create(image="gone:1", wait=False)
    row = node.ask("wait_kernel", refused, ["TERMINATED"], timeout=30)
    assert row.reason == "failed-to-create"
    never = node.create(image="big:1", pull="never", wait=False)
    assert node.ask("wait_kernel", never, ["RUNNING"], timeout=30).state == "TERMINATED"

    async def both(agent):
        async def pulled():
            return [item async for item in agent.pull_image("big:1")]

        return await asyncio.gather(pulled(), pulled())

    one, two = node.talk(both)
    assert one[-1].status == two[-1].status == "complete"
    with pytest.raises(ImageNotFound):
        node.talk(lambda agent: _all(agent.pull_image("gone:1")))
    node.ask("purge_image", "big:1")
    node.ask("purge_image", "big:1")
    kernel = node.create(image="big:1")
    steps = [event.data for event in node.talk(lambda agent: _all(agent.watch_events(kernel)))]
    assert steps[-1]["to"] == "RUNNING"
    assert [row.name for row in node.ask("list_images")] == ["big:1", "python"]


async def _all(items):
    return [item async for item in items]


async def _tar(files):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    data = buffer.getvalue()
    for start in range(0, len(data), 100_000):
        yield data[start : start + 100_000]


def test_files_go_in_and_come_out_as_they_were(dummy, tmp_path):
    node = dummy().start()
    kernel = node.create()
    content = bytes(range(256)) * 4096

    async def there_and_back(agent):
        sent = await agent.upload_file(kernel, "/home/work", _tar({"a/b.bin": content, "c": b""}))
        rows = await agent.list_files(kernel, "/home/work")
        data = b"".join([piece async for piece in agent.download_file(kernel, "/home/work")])
        return sent, rows, data

    sent, rows, data = node.talk(there_and_back)
    assert sent > len(content)
    assert [(row.name, row.kind) for row in rows] == [("a", "directory"), ("c", "file")]
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        assert archive.extractfile("work/a/b.bin").read() == content
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "x.txt").write_text("hello")
    node.agentctl("cp", str(tmp_path / "in"), f"{kernel}:/tmp/")
    node.agentctl("cp", f"{kernel}:/tmp/in/x.txt", str(tmp_path / "back.txt"))
    assert (tmp_path / "back.txt").read_text() == "hello"
    assert "x.txt" in node.agentctl("kernels", "files", kernel, "/tmp/in")
    assert "/nowhere" in node.agentctl("cp", str(tmp_path / "in"), f"{kernel}:/nowhere/", code=1)
    with pytest.raises(NotFound):
        node.ask("list_files", kernel, "/nowhere")
    assert "one of the two" in node.agentctl("cp", "a", "b", code=2)


def test_what_a_backend_says_of_its_node_is_shown(dummy):
    node = dummy().start()
    facts = node.json("plugins", "show", "backend:dummy")["facts"]
    assert "code-runner" in facts
    shown = node.agentctl("plugins", "show", "backend:dummy")
    assert all(fact in shown for pair in facts.items() for fact in pair)


def test_a_dash_is_standard_input_or_output_of_a_copy(dummy, tmp_path, monkeypatch):
    node = dummy().start()
    kernel = node.create()
    monkeypatch.chdir(tmp_path)
    said = node.agentctl("cp", "-", f"{kernel}:/tmp/in.txt", answer="hello\n")
    assert said.endswith("6 B\n")
    assert node.agentctl("cp", f"{kernel}:/tmp/in.txt", "-") == "hello\n"
    packed = node.agentctl("cp", f"{kernel}:/tmp", "-").encode()
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        assert archive.extractfile("tmp/in.txt").read() == b"hello\n"
    assert "needs a name: /tmp/NAME" in node.agentctl("cp", "-", f"{kernel}:/tmp/", code=2)
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize("name", ["../out", "/abs"])
def test_a_tar_that_leads_out_is_refused(dummy, name):
    node = dummy().start()
    kernel = node.create()
    with pytest.raises(AgentError, match="leads out"):
        node.talk(lambda agent: agent.upload_file(kernel, "/home/work", _tar({name: b"x"})))
    assert node.ask("list_files", kernel, "/home/work") == []


def test_a_file_of_an_image_that_holds_nothing_is_refused_before_anything_is_committed(dummy):
    node = dummy().start()
    kernel = node.create(slots={"mem": "1m"})
    with pytest.raises(Unsupported, match="cannot write images to files"):
        node.ask("commit_kernel", kernel, "mine:1", "mine.tar.gz")
    assert node.ask("get_commit_status", kernel).status == "none"
    assert "mine:1" not in [row.name for row in node.ask("list_images")]
    node.destroy(kernel)


def test_a_commit_goes_on_and_only_one_at_a_time(dummy):
    node = dummy("[kernel.delay]\ncommit = 0.5\n").start()
    kernel = node.create()
    assert node.ask("get_commit_status", kernel).status == "none"

    async def twice(agent):
        first = asyncio.ensure_future(agent.commit_kernel(kernel, "mine:1"))
        while (await agent.get_commit_status(kernel)).status != "ongoing":  # noqa: ASYNC110 - it is what we ask
            await asyncio.sleep(0.01)
        with pytest.raises(Conflict, match="mine:1"):
            await agent.commit_kernel(kernel, "mine:2")
        return await first

    assert node.talk(twice).status == "done"
    assert "mine:1" in [row.name for row in node.ask("list_images")]
    assert json.loads(node.agentctl("kernels", "commit", kernel, "--status", "--json"))["digest"]
    node.create(image="mine:1", kernel_id="of-mine")


def test_services_are_those_that_are_published(dummy):
    node = dummy().start()
    kernel = node.create(ports=["web:http:8080", "tb:tcp:[6006,6007]"])
    rows = {row.name: (row.ports, row.running) for row in node.ask("list_services", kernel)}
    assert rows == {"web": ([8080], False), "tb": ([6006, 6007], False)}
    assert node.ask("start_service", kernel, "web").running
    assert "running" in node.agentctl("services", "start", kernel, "web")
    with pytest.raises(NotFound) as refusal:
        node.ask("start_service", kernel, "wbe")
    assert "web" in refusal.value.hint
    node.ask("shutdown_service", kernel, "web")
    node.agentctl("services", "stop", kernel, "web")
    assert not any(row.running for row in node.ask("list_services", kernel))


def test_what_a_kernel_ends_is_told_to_whoever_uses_it(dummy):
    node = dummy().start()
    node.ask("call_backend", "add-fault", {"step": "execute", "action": "hang"})
    kernel = node.create()

    async def interrupted(agent):
        running = asyncio.ensure_future(_all(agent.execute_code(kernel, "x")))
        await asyncio.sleep(0)
        async for event in agent.watch_events(kernel, follow=True):
            if event.name == "kernel.running":
                break
        await agent.destroy_kernel(kernel)
        await running

    with pytest.raises(KernelFailed):
        node.talk(interrupted)


def test_a_command_that_the_backend_does_not_have_is_refused(dummy):
    node = dummy().start()
    with pytest.raises(NotFound, match="no command"):
        node.ask("call_backend", "explode")
    assert "add-fault" in node.agentctl("plugins", "command")
    said = node.agentctl("plugins", "command", "add-fault", "step=creat", "action=fail", code=1)
    assert "did you mean 'create'" in said
    node.agentctl("plugins", "command", "add-fault", "step=create", "action=fail", "kernel=bad*")
    bad = node.create(kernel_id="bad1", wait=False)
    assert node.ask("wait_kernel", bad, ["RUNNING"], timeout=30).reason == "failed-to-create"
    node.agentctl("plugins", "command", "clear-faults")


def test_an_agent_that_is_asked_for_more_than_it_can_do_says_so(dummy):
    node = dummy().start()

    async def run():
        async with AgentClient(str(node.socket)) as agent:
            return await asyncio.gather(
                *(
                    agent.create_kernel({"image": "python", "slots": {"cpu": "4"}})
                    for _ in range(4)
                ),
                return_exceptions=True,
            )

    created = asyncio.run(run())
    assert sum(isinstance(each, AgentError) for each in created) == 2


def test_containers_that_have_ended_are_left_where_somebody_wants_to_look_at_them(dummy):
    grace = '[kernel-lifecycles]\nstranger-grace = "1ms"\n'
    node = dummy(f"[debug]\nskip-container-deletion = true\n{grace}").start()
    kernel = node.create()
    node.destroy(kernel)
    assert node.used() == {}
    [leak] = node.ask("list_leaks")
    assert (leak.kind, kernel in leak.key) == ("container", True)
    # The first look begins the grace, and a later one finds that it is over.
    outcomes = [row.outcome for _ in range(2) for row in node.ask("fix_leaks")]
    assert outcomes[-1] == "given-back"
    node.clean()


def test_a_copy_that_cannot_be_made_ends_at_once_and_says_why(dummy, tmp_path):
    node = dummy().start()
    big = tmp_path / "big"
    big.write_bytes(bytes(8 << 20))
    assert "no kernel" in node.agentctl("cp", str(big), "nobody:/x", code=1)
    kernel = node.create()
    node.ask("call_backend", "add-fault", {"step": "copy-in", "action": "fail", "message": "full"})
    assert "full" in node.agentctl("cp", str(big), f"{kernel}:/x", code=1)
    assert "cannot read" in node.agentctl("cp", "/proc/1/mem", f"{kernel}:/x", code=1)


@pytest.mark.parametrize("step", ["copy-in", "commit"])
def test_what_a_kernel_is_used_for_ends_with_it(dummy, step):
    node = dummy().start()
    node.ask("call_backend", "add-fault", {"step": step, "action": "hang"})
    kernel = node.create()

    async def ended(agent):
        if step == "commit":
            using = asyncio.ensure_future(agent.commit_kernel(kernel, "mine:1"))
        else:
            using = asyncio.ensure_future(agent.upload_file(kernel, "/x", _tar({"a": b"x"})))
        while not (await agent.call_backend("list-faults"))["faults"][0]["struck"]:  # noqa: ASYNC110 - it is what we ask
            await asyncio.sleep(0.01)
        await agent.destroy_kernel(kernel)
        await using

    with pytest.raises(KernelFailed, match="meanwhile"):
        node.talk(ended)


def test_a_model_of_a_simulated_kernel_is_well_and_stays_so_whatever_becomes_of_the_agent(dummy):
    node = dummy().start()
    service = {"start_command": "serve", "port": 8000}
    kernel = node.create(model_definition={"models": [{"name": "llm", "service": service}]})

    def is_well():
        [row] = node.ask("list_services", kernel)
        return row.model.status == "healthy"

    until(is_well)
    node.ask("shutdown_service", kernel, "llm")
    assert not is_well()
    node.end(signal.SIGKILL)
    node.start()
    until(is_well)
    node.destroy(kernel)
    node.clean()
