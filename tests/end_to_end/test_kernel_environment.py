"""What code in a real kernel finds: its environment, and the files in its config directory."""

import json
import shutil
import signal
import subprocess

import pytest

from agent_core.contracts.errors import AgentError, InvalidSpec
from agent_core.kernels.files.lines import read_lines, read_list

HOSTILE = {
    "NEWLINES": "a\nb\r\nc\n",
    "QUOTES": "\"'`$(x) \\n",
    "EQUALS": "=a=b=",
    "SPACES": "  \t",
    "EMPTY": "",
    "UNICODE": "한글 \u2028 \U0001f600",
    "PATHS": "/a:b,/c d=e/%3A",
    "LONG": "x" * (100 << 10),
    "LONGER": "y" * (120 << 10),
}
SHOW = "import json, os; print(json.dumps(dict(os.environ)))"
READ = """
import json, os
def read(name):
    with open(os.path.join(os.environ['BACKENDAI_CONFIG_DIR'], name)) as file:
        return file.read()
"""


def environ(node, kernel):
    return json.loads(node.run(kernel, SHOW)[0])


def read(node, kernel, name):
    return node.run(kernel, f"{READ}print(read({name!r}), end='')")[0]


def restarted(node, kernel):
    node.ask("restart_kernel", kernel)
    return node.ask("wait_kernel", kernel, ["RUNNING"], timeout=30)


def test_any_value_is_in_the_environment_and_in_the_files_as_it_was_given(node):
    node.start()
    kernel = node.create(env=HOSTILE)
    found = environ(node, kernel)
    assert {name: found[name] for name in HOSTILE} == HOSTILE
    for said in (read_lines, json.loads):
        name = "environ.txt" if said is read_lines else "environ.json"
        told = said((node.scratches / kernel / "config" / name).read_bytes().decode())
        assert {key: told[key] for key in HOSTILE} == HOSTILE
        assert told.items() <= found.items()
    node.destroy(kernel)
    node.clean()


@pytest.mark.parametrize(
    ("value", "part"), [("a\0b", "NUL"), ("z" * (200 << 10), "longer than 131071 bytes")]
)
def test_what_no_process_can_be_given_is_refused_before_anything_is_taken(node, value, part):
    node.start()
    with pytest.raises(InvalidSpec, match=part):
        node.create(env={"A": value})
    node.clean()


def test_code_reads_what_its_kernel_was_given(node):
    node.start()
    slots = {"cpu": "1", "mem": "1500000000", "cuda.shares": "0.5"}
    kernel = node.create(slots=slots, kernel_id="k")
    lines = read_lines(read(node, kernel, "resource.txt"))
    assert json.loads(lines["SLOTS"]) == slots
    assert lines["MEM_SHARES"] == "root:1500000000"
    ((device, amount),) = read_list(lines["CUDA.SHARES_SHARES"])
    assert amount == "0.5"
    given = json.loads(read(node, kernel, "resource.json"))
    assert given["devices"]["mock"] == {"cuda.shares": {device: "0.5"}}
    found = environ(node, kernel)
    assert (found["GPU_TYPE"], found["GPU_COUNT"], found["GPU_CONFIG"]) == ("cuda", "1", "0:20g")
    node.destroy(kernel)
    node.clean()


def test_a_scratch_root_with_separators_and_spaces_in_its_path_does_no_harm(nodes):
    node = nodes()
    node.configure("")
    places = node.config.read_text()
    odd = node.root / "a b,c:d=e"
    odd.mkdir()
    node.config.write_text(places.replace(str(node.scratches), str(odd)))
    node.scratches = odd
    node.start()
    kernel = node.create()
    assert environ(node, kernel)["BACKENDAI_CONFIG_DIR"] == str(odd / kernel / "config")
    assert json.loads(read(node, kernel, "cluster.json"))["kernel_id"] == kernel
    node.destroy(kernel)
    node.clean()


def test_both_kernels_of_a_session_have_the_same_keys_and_hosts_also_after_a_restart(node):
    node.start()
    spec = {"image": "python", "slots": {"mem": "16m"}}
    session = node.ask("create_session", [spec, spec], "s")
    kernels = [kernel.kernel_id for kernel in session.kernels]
    for kernel in kernels:
        node.ask("wait_kernel", kernel, ["RUNNING"], timeout=30)
    pairs = [read(node, kernel, "ssh/id_cluster") for kernel in kernels]
    assert pairs[0] == pairs[1]
    assert {tuple(json.loads(read(node, k, "cluster.json"))["hosts"]) for k in kernels} == {
        ("main1", "sub1")
    }
    public = read(node, kernels[0], "ssh/id_cluster.pub")
    node.end()
    node.start()
    restarted(node, kernels[0])
    assert read(node, kernels[0], "ssh/id_cluster") == pairs[1]
    assert read(node, kernels[0], "ssh/id_cluster.pub") == public
    assert read(node, kernels[0], "resource.txt").count("CID=t.s-main1.2.main.0\n") == 1
    assert "PRIVATE KEY" not in "\n".join(node.log)
    node.ask("destroy_session", "s")
    for kernel in kernels:
        node.ask("wait_kernel", kernel, ["TERMINATED"], timeout=30)
    assert [*(node.state / "session-keys").iterdir()] == []
    node.clean()


@pytest.mark.skipif(not shutil.which("ssh-keygen"), reason="there is no ssh-keygen")
def test_openssh_reads_the_pair(node):
    node.start()
    spec = {"image": "python", "slots": {"mem": "16m"}}
    node.ask("create_session", [spec, spec], "s")
    node.ask("wait_kernel", "s-main1", ["RUNNING"], timeout=30)
    folder = node.scratches / "s-main1/config/ssh"
    made = subprocess.run(
        ["ssh-keygen", "-y", "-f", folder / "id_cluster"],
        check=True,
        capture_output=True,
        text=True,
    )
    public = (folder / "id_cluster.pub").read_text()
    assert made.stdout.split()[:2] == public.split()[:2]
    node.ask("destroy_session", "s")
    for kernel in ("s-main1", "s-sub1"):
        node.ask("wait_kernel", kernel, ["TERMINATED"], timeout=30)
    node.clean()


@pytest.mark.parametrize("hit", range(1, 6))
def test_a_kill_between_two_files_of_a_restart_leaves_each_of_them_whole(node, hit):
    node.start()
    kernel = node.create(env={"A": "x" * 10000})
    node.end()
    config = node.scratches / kernel / "config"
    node.start(AGENT_FAILPOINTS=f"effect.config-file.before=kill@{hit}")
    with pytest.raises(AgentError):
        restarted(node, kernel)
    assert node.wait() == -signal.SIGKILL
    old_or_new = read_lines((config / "resource.txt").read_text())["CID"]
    assert old_or_new in {f"t.{kernel}.1.main.0", f"t.{kernel}.2.main.0"}
    assert json.loads((config / "environ.json").read_text())["A"] == "x" * 10000
    assert read_lines((config / "environ.txt").read_text())["A"] == "x" * 10000
    node.start()
    assert node.ask("wait_kernel", kernel, ["RUNNING"], timeout=30).incarnation == 2
    assert json.loads((config / "resource.json").read_text())["incarnation"] == 2
    assert [path.name for path in config.iterdir() if path.name.startswith(".")] == []
    node.destroy(kernel)
    node.clean()


def test_links_that_code_leaves_in_the_place_of_files_are_replaced_and_not_followed(node):
    node.start()
    kernel = node.create()
    outside = node.root / "outside"
    outside.write_text("mine")
    names = ["resource.txt", ".environ.txt.new"]
    code = f"""
import os
os.chdir(os.environ["BACKENDAI_CONFIG_DIR"])
for name in {names}:
    if os.path.exists(name):
        os.unlink(name)
    os.symlink({str(outside)!r}, name)
"""
    assert node.run(kernel, code)[1] == ""
    assert restarted(node, kernel).state == "RUNNING"
    assert outside.read_text() == "mine"
    assert "CID=" in read(node, kernel, "resource.txt")
    node.destroy(kernel)
    node.clean()
