"""A kernel's work directory has its caller's files and its session's keys, and nothing outside."""

import json
import stat

import pytest

from agent_core.kernels.dotfiles import LARGEST, MOST, Dotfile, read_dotfiles
from agent_core.kernels.files.home import put_home
from agent_core.kernels.key_pairs import KeyPair
from agent_core.kernels.spec import Faults, read_spec
from agent_core.kernels.user import OWN

from .conftest import SLOTS

RC = {"path": ".bashrc", "data": "alias l=ls\n"}
DEEP = {"path": ".jupyter/custom/custom.css", "data": "é", "perm": "0600"}
PAIR = KeyPair("ssh-ed25519 AAAA me", "-----BEGIN OPENSSH PRIVATE KEY-----\ns3cret\n")
SPECS = [{"image": "python", "slots": SLOTS}] * 2


def mode_of(path):
    return stat.S_IMODE(path.stat().st_mode)


def work(world, kernel_id="k"):
    return world.root / "s" / kernel_id / "work"


@pytest.mark.parametrize(
    ("files", "part"),
    [
        ("x", "not a list"),
        ([3], "number 0: not a table"),
        ([{"path": "/etc/passwd", "data": ""}], "not below the work directory"),
        ([{"path": "a/../../b", "data": ""}], "'..'"),
        ([{"path": "..", "data": ""}], "'..'"),
        ([{"path": "a//b", "data": ""}], "empty part"),
        ([{"path": "a/", "data": ""}], "empty part"),
        ([{"path": "a\0b", "data": ""}], "cannot be printed"),
        ([{"path": "/".join("abcdefghi"), "data": ""}], "over 8 parts"),
        ([{"path": "가" * 80, "data": ""}], "one over 200 bytes"),
        ([{"path": "", "data": ""}], "path: a text is required"),
        ([{"path": "a"}], "data: a text is required"),
        ([{"path": "a", "data": "\ud800"}], "data: has a character that is none"),
        ([{"path": "a", "data": "x" * (LARGEST + 1)}], "larger than 64 KiB"),
        ([{"path": "a", "data": "", "perm": "4755"}], "not octal text"),
        ([{"path": "a", "data": "", "perm": 644}], "not octal text"),
        ([{"path": "a", "data": "", "perm": "200"}], "does not let the owner read"),
        ([{"path": "a", "data": "", "mode": "644"}], "unknown field 'mode'"),
        ([RC, RC], "there twice"),
        ([{"path": "a", "data": ""}, {"path": "a/b", "data": ""}], "a file and a directory"),
        ([{"path": f"f{n}", "data": ""} for n in range(MOST + 1)], "64 are the most"),
        ([{"path": f"f{n}", "data": "x" * LARGEST} for n in range(5)], "256 KiB in all"),
    ],
)
def test_each_fault_of_a_dotfile_is_named(files, part):
    _, faults = read_dotfiles(files)
    assert len(faults) == 1
    assert part in faults[0]


def test_a_specification_keeps_its_dotfiles_and_one_without_them_is_as_it_was():
    faults = Faults()
    spec = read_spec({"image": "i", "kernel_id": "k", "dotfiles": [RC, DEEP]}, faults)
    assert faults.errors == []
    assert read_spec(json.loads(json.dumps(spec.to_data())), faults) == spec
    plain = read_spec({"image": "i", "kernel_id": "k"}, faults)
    assert "dotfiles" not in plain.to_data()
    assert plain.digest != spec.digest


def test_what_is_in_a_dotfile_is_not_shown_with_it():
    assert "s3cret" not in repr(Dotfile(".netrc", "s3cret"))


def spec_with(dotfiles):
    return read_spec({"image": "i", "kernel_id": "k", "dotfiles": dotfiles}, Faults())


def test_a_link_out_of_the_work_directory_is_not_followed_and_the_rest_is_put(tmp_path):
    outside, inside = tmp_path / "outside", tmp_path / "work"
    outside.mkdir()
    inside.mkdir()
    (inside / ".jupyter").symlink_to(outside)
    (inside / ".vimrc").symlink_to(outside / "vimrc")
    wanted = spec_with([DEEP, {"path": ".vimrc", "data": "x"}, RC])
    said = list(put_home(inside, wanted, None, OWN))
    assert [*outside.iterdir()] == []
    assert (inside / ".bashrc").read_text() == RC["data"]
    assert len(said) == 1
    assert said[0].startswith(f"{DEEP['path']} is not in the work directory: ")


def test_keys_lie_where_ssh_finds_them_and_a_callers_own_come_first(tmp_path):
    keys = {"path": ".ssh/authorized_keys", "data": "mine\n", "perm": "600"}
    assert list(put_home(tmp_path, spec_with([keys]), PAIR, OWN)) == []
    assert (tmp_path / ".ssh/id_rsa").read_text() == PAIR.private_key
    assert mode_of(tmp_path / ".ssh/id_rsa") == 0o600
    assert (tmp_path / ".ssh/authorized_keys").read_text() == "mine\n"


def test_a_kernel_finds_its_dotfiles_and_a_restart_keeps_what_became_of_them(live):
    async def body(world):
        await world.create(dotfiles=[RC, DEEP])
        await world.kernels.wait("k", ["RUNNING"])
        assert not [w for w in (await world.row()).warnings if "work directory" in w]
        deep = work(world) / DEEP["path"]
        assert (work(world) / ".bashrc").read_text() == RC["data"]
        assert (deep.read_text(), mode_of(deep)) == (DEEP["data"], 0o600)
        (work(world) / ".bashrc").write_text("changed")
        deep.unlink()
        await world.kernels.restart("k", None)
        await world.kernels.wait("k", ["RUNNING"])
        assert (work(world) / ".bashrc").read_text() == "changed"
        assert deep.read_text() == DEEP["data"]

    live(body)


def test_the_kernels_of_a_session_have_its_keys_in_their_work_directories(live):
    async def body(world):
        await world.kernels.create_session("s", SPECS)
        for kernel in ("s-main1", "s-sub1"):
            await world.kernels.wait(kernel, ["RUNNING"])
        keys = {(work(world, k) / ".ssh/id_rsa").read_text() for k in ("s-main1", "s-sub1")}
        assert len(keys) == 1
        assert (work(world, "s-sub1") / ".ssh/authorized_keys").read_text().startswith("ssh-")

    live(body)
