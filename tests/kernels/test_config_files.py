"""What a kernel finds in its config directory, and what is left of it: nothing."""

import json
import sys

import pytest

from agent_core import failpoints
from agent_core.contracts.edits import ContainerEdits
from agent_core.contracts.errors import AgentError, Conflict, InvalidSpec
from agent_core.contracts.scratch import Scratch
from agent_core.kernels.files.contents import FILES
from agent_core.kernels.files.lines import read_lines, read_list
from agent_core.kernels.key_pairs import make_pair

from .conftest import SLOTS

SPECS = [{"image": "python", "slots": SLOTS}] * 2
KERNELS = ("s-main1", "s-sub1")
SECRET = "-----BEGIN OPENSSH PRIVATE KEY-----\ns3cret\n"
GIVEN = {"public_key": "ssh-ed25519 AAAA me", "private_key": SECRET}
HOSTS = {"role": "sub", "index": 1, "hosts": ["main1", "sub1"]}


def config(world, kernel_id="k"):
    return world.root / "s" / kernel_id / "config"


def lines(world, name, kernel_id="k"):
    return read_lines((config(world, kernel_id) / name).read_text())


def data(world, name, kernel_id="k"):
    return json.loads((config(world, kernel_id) / name).read_text())


def pair_of(world, kernel_id):
    folder = config(world, kernel_id) / "ssh"
    return (folder / "id_cluster").read_text(), (folder / "id_cluster.pub").read_text()


def kept(world):
    return sorted(path.name for path in (world.root / "ssh-keys").glob("*"))


async def session(world):
    await world.kernels.create_session("s", SPECS)
    for kernel in KERNELS:
        row = await world.kernels.wait(kernel, ["RUNNING"])
        assert row.state == "RUNNING", await world.row(kernel)


async def restarted(world, kernel_id):
    await world.kernels.restart(kernel_id, None)
    return await world.kernels.wait(kernel_id, ["RUNNING"])


async def destroyed(world, kernel_id):
    await world.kernels.destroy(kernel_id, "tired")
    return await world.ended(kernel_id)


# ---- the files ---------------------------------------------------------------------------------


def test_the_files_say_what_was_given_and_the_environment_of_the_container(live):
    async def body(world):
        await world.create(env={"A": "x=1\ny", "B": "한글"})
        await world.kernels.wait("k", ["RUNNING"])
        found = lines(world, "resource.txt")
        assert json.loads(found["SLOTS"]) == SLOTS
        assert read_list(found["AA.UNIT_SHARES"]) == [("aa-0", "1")]
        assert found["CID"] == "t.k.1.main.0"
        given = data(world, "resource.json")
        assert given["devices"]["bb"] == {"bb.unit": {"bb-0": "1"}}
        env = dict(world.backend.specs["t.k.1.main.0"].env)
        assert lines(world, "environ.txt") == data(world, "environ.json") == env
        assert env["A"] == "x=1\ny"
        assert data(world, "cluster.json")["hosts"] == ["main1"]

    live(body)


def test_a_restart_writes_them_anew_and_leaves_nothing_twice(live):
    async def body(world):
        await world.running()
        names = sorted(path.name for path in config(world).iterdir())
        await restarted(world, "k")
        assert sorted(path.name for path in config(world).iterdir()) == names
        text = (config(world) / "resource.txt").read_text()
        assert text.count("CID=") == 1
        assert lines(world, "resource.txt")["CID"] == "t.k.2.main.0"
        assert data(world, "resource.json")["incarnation"] == 2

    live(body)


def test_every_file_that_is_written_is_in_the_reference(live):
    async def body(world):
        cluster = {**HOSTS, "ssh_ports": {"main1": ["10.0.0.1", 2200]}}
        await world.create(session_id="s", cluster=cluster)
        await world.kernels.wait("k", ["RUNNING"])
        folder = config(world)
        found = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
        assert found == set(FILES)
        assert data(world, "ssh/port-mapping.json") == {"main1": ["10.0.0.1", 2200]}

    live(body)


def test_a_simulated_scratch_has_no_files_and_the_kernel_runs(live, monkeypatch):
    async def body(world):
        monkeypatch.setattr(world.scratch, "create", lambda kernel_id, size=None: Scratch("k", ""))
        await world.running()
        assert not config(world).exists()
        env = world.backend.specs["t.k.1.main.0"].env
        assert env["BACKENDAI_KERNEL_ID"] == "k"
        assert "HOME" not in env
        assert "BACKENDAI_CONFIG_DIR" not in env
        await destroyed(world, "k")
        await world.clean()

    live(body)


def test_a_session_on_simulated_scratches_has_no_pair_and_holds_none(live, monkeypatch):
    async def body(world):
        monkeypatch.setattr(world.scratch, "create", lambda kernel_id, size=None: Scratch("k", ""))
        await session(world)
        assert kept(world) == []
        assert "ssh-key" not in {kind for kind, _ in await world.holds()}
        await restarted(world, KERNELS[0])
        for kernel in KERNELS:
            await destroyed(world, kernel)
        await world.idle()
        assert await world.holds() == {}

    live(body)


def test_a_plugin_adds_lines_but_never_takes_the_place_of_the_core_s(live, monkeypatch):
    async def body(world):
        said = ContainerEdits(resource_data={"CID": "mine", "AA_MEMORY": "0:1"})
        monkeypatch.setattr(world.fakes[0], "describe", lambda grants: said)
        await world.running()
        found = lines(world, "resource.txt")
        assert (found["CID"], found["AA_MEMORY"]) == ("t.k.1.main.0", "0:1")
        assert [w for w in (await world.row()).warnings if "plugin aa is left out" in w]
        assert data(world, "resource.json")["data"]["CID"] == "mine"

    live(body)


@pytest.mark.parametrize("name", ["A", "B"])
def test_a_variable_that_no_process_can_have_is_refused(live, name):
    async def body(world):
        with pytest.raises(InvalidSpec, match=f"env.{name}: longer than"):
            await world.create(env={name: "x" * (200 << 10)})

    live(body)


def test_a_variable_of_a_plugin_that_no_process_can_have_fails_the_create(live, monkeypatch):
    async def body(world):
        said = ContainerEdits(env={"AA": "x" * (200 << 10)})
        monkeypatch.setattr(world.fakes[0], "describe", lambda grants: said)
        await world.create()
        row = await world.ended()
        assert row.reason == "failed-to-create"
        assert row.message.startswith("step config: env AA: with its name longer than")
        await world.clean()

    live(body)


def test_an_image_names_the_variables_that_count_cores(live, monkeypatch):
    async def body(world):
        world.backend.labels = {"ai.backend.envs.corecount": "OMP_NUM_THREADS, NPROC,,no=name"}
        await world.create(env={"NPROC": "7"})
        await world.kernels.wait("k", ["RUNNING"])
        env = world.backend.specs["t.k.1.main.0"].env
        assert "OMP_NUM_THREADS" not in env  # no core is granted, so nothing is counted
        assert env["NPROC"] == "7"

    live(body)


# ---- the key pair ------------------------------------------------------------------------------


def test_the_kernels_of_a_session_have_one_pair_until_the_last_has_ended(live):
    async def body(world):
        await session(world)
        first, second = (pair_of(world, kernel) for kernel in KERNELS)
        assert first == second
        assert kept(world) == ["s.json"]
        await destroyed(world, KERNELS[0])
        assert kept(world) == ["s.json"]
        await restarted(world, KERNELS[1])
        assert pair_of(world, KERNELS[1]) == first
        await destroyed(world, KERNELS[1])
        assert kept(world) == []

    live(body)


def test_another_session_of_the_same_id_has_another_pair(live):
    async def body(world):
        pairs = []
        for kernel_id in ("k", "k2"):
            await world.create(kernel_id, session_id="s", cluster=HOSTS)
            await world.kernels.wait(kernel_id, ["RUNNING"])
            pairs.append(pair_of(world, kernel_id))
            await destroyed(world, kernel_id)
        assert pairs[0] != pairs[1]

    live(body)


def test_a_pair_that_a_lost_ledger_has_left_is_not_that_of_a_later_session(live):
    async def body(world):
        left = world.services.key_pairs.ensure("s", None)
        await session(world)
        assert pair_of(world, KERNELS[0]) == pair_of(world, KERNELS[1])
        assert pair_of(world, KERNELS[0])[0] != left.private_key

    live(body)


def test_a_kernel_alone_has_no_pair(live):
    async def body(world):
        await world.running()
        assert not (config(world) / "ssh").exists()
        assert kept(world) == []

    live(body)


def test_a_given_pair_survives_the_agent_and_is_written_nowhere_else(live):
    async def body(world):
        await world.create(session_id="s", cluster={**HOSTS, "ssh_keypair": GIVEN})
        await world.kernels.wait("k", ["RUNNING"])
        await world.stop()
        assert b"s3cret" not in b"".join(p.read_bytes() for p in world.root.glob("ledger.db*"))
        await world.start()
        await restarted(world, "k")
        assert pair_of(world, "k") == (SECRET, GIVEN["public_key"] + "\n")
        told = world.bus.watch("k", since=None, follow=False, progress=True)
        assert "s3cret" not in repr([item async for item in told])
        assert "s3cret" not in repr(world.backend.specs)
        assert "s3cret" not in repr(await world.kernels.show("k"))
        assert "s3cret" not in repr(world.owners.get("k").build)

    live(body)


def test_a_repeated_create_with_another_pair_is_a_contradiction(live):
    async def body(world):
        cluster = {**HOSTS, "ssh_keypair": GIVEN}
        await world.create(session_id="s", cluster=cluster)
        assert (await world.create(session_id="s", cluster=cluster)).kernel_id == "k"
        other = make_pair("x")
        table = {"public_key": other.public_key, "private_key": other.private_key}
        with pytest.raises(Conflict):
            await world.create(session_id="s", cluster={**HOSTS, "ssh_keypair": table})

    live(body)


def test_a_second_kernel_with_another_pair_gets_that_of_the_session_and_is_told(live):
    async def body(world):
        await world.create(session_id="s", cluster={**HOSTS, "ssh_keypair": GIVEN})
        await world.kernels.wait("k", ["RUNNING"])
        other = {"public_key": "ssh-ed25519 BBBB", "private_key": SECRET}
        main = {"hosts": ["main1", "sub1"], "ssh_keypair": other}
        await world.create("k2", session_id="s", cluster=main)
        await world.kernels.wait("k2", ["RUNNING"])
        assert pair_of(world, "k2") == pair_of(world, "k")
        warnings = (await world.row("k2")).warnings
        assert "session s has another SSH key pair than the one given" in warnings

    live(body)


def test_the_kernels_of_several_nodes_get_no_pair_that_the_others_lack(live):
    async def body(world):
        await world.create(session_id="s", cluster={**HOSTS, "mode": "multi-node"})
        await world.kernels.wait("k", ["RUNNING"])
        assert not (config(world) / "ssh").exists()
        env = world.backend.specs["t.k.1.main.0"].env
        assert env["BACKENDAI_CLUSTER_MODE"] == "multi-node"

    live(body)


def test_without_the_library_a_session_runs_and_says_what_it_lacks(live, monkeypatch):
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives", None)

    async def body(world):
        await session(world)
        assert not (config(world, KERNELS[0]) / "ssh").exists()
        warnings = (await world.row(KERNELS[0])).warnings
        assert [w for w in warnings if "agent-core[ssh]" in w]

    live(body)


@pytest.mark.parametrize("side", ["before", "after"])
@pytest.mark.parametrize("effect", ["ssh-key-make", "config-file"])
def test_a_create_that_is_cut_short_at_the_pair_or_a_file_leaves_neither(
    live, monkeypatch, effect, side
):
    async def body(world):
        armed = failpoints._Arming(f"effect.{effect}.{side}=raise", None)
        monkeypatch.setattr(failpoints, "_arming", armed)
        await world.kernels.create_session("s", SPECS)
        for kernel in KERNELS:
            await world.ended(kernel)
        await world.idle()
        assert kept(world) == []
        assert [*(world.root / "s").iterdir()] == []

    live(body)


@pytest.mark.parametrize("side", ["before", "after"])
def test_an_agent_that_ends_while_a_pair_is_removed_removes_it_later(live, monkeypatch, side):
    async def body(world):
        await session(world)
        armed = failpoints._Arming(f"effect.ssh-key-remove.{side}=raise", None)
        monkeypatch.setattr(failpoints, "_arming", armed)
        for kernel in KERNELS:
            await destroyed(world, kernel)
        await world.crash()
        await world.start()
        await world.idle()
        assert kept(world) == []
        assert await world.holds() == {}

    live(body)


@pytest.mark.parametrize(
    ("cluster", "part"),
    [
        ({"mode": "all-node"}, "cluster.mode"),
        ({"ssh_ports": []}, "cluster.ssh_ports"),
        ({"ssh_ports": {"main1": ["10.0.0.1", 0]}}, "'main1' is not a host with"),
        ({"ssh_keypair": {"public_key": "s3cret"}}, "cluster.ssh_keypair"),
    ],
)
def test_what_a_cluster_cannot_be_is_refused_without_quoting_a_key(live, cluster, part):
    async def body(world):
        with pytest.raises(AgentError, match=part) as caught:
            await world.create(cluster=cluster)
        assert "s3cret" not in str(caught.value)

    live(body)
