"""`agentctl keys` says who may call by TCP, and a running agent does as it says."""

import asyncio
import json
import stat
import threading
from types import SimpleNamespace

import pytest

from agent_core.server.addresses import TcpAddress
from agent_core.server.dispatcher import Dispatcher
from agent_core.server.rpc import RpcServer
from agent_core.wire.keys import ensure_keys, make_pair


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "agent.toml"
    path.write_text(f'[agent]\nid = "i-test"\nvar-base-path = "{tmp_path}/var"\n')
    return str(path)


@pytest.fixture
def directory(tmp_path, config):
    return tmp_path / "var/i-test/keys"


@pytest.fixture
def keys(agentctl, config):
    return lambda *arguments: agentctl("keys", *arguments, "-f", config)


@pytest.fixture
def served(directory):
    """An agent's server at a TCP address, which answers pings only."""
    loop, ready, stop = asyncio.new_event_loop(), threading.Event(), asyncio.Event()
    nothing = SimpleNamespace(execute=None, devices=list, slots=list)
    place = SimpleNamespace(address=None)

    async def serve():
        address = TcpAddress("127.0.0.1", 0, ensure_keys(directory))
        server = RpcServer(Dispatcher(nothing, nothing, nothing, nothing), tcp=address)
        server.start()
        place.address = server.addresses[0]
        ready.set()
        await stop.wait()
        await server.stop(0.1)

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    assert ready.wait(10)
    yield place
    loop.call_soon_threadsafe(stop.set)
    thread.join(10)
    loop.close()


def test_before_the_first_key_nobody_is_listed(keys, directory):
    done = keys("list")
    assert (done.code, done.out) == (0, "")
    assert "no keys yet" in done.err
    assert json.loads(keys("list", "--json").out) == []
    assert not directory.exists()


def test_a_caller_is_let_in_with_a_pair_of_its_own(keys, directory):
    done = keys("add", "manager", "--role", "operate")
    assert done.code == 0
    assert str(directory / "server.key") in done.err
    assert stat.S_IMODE((directory / "manager.key").stat().st_mode) == 0o600
    assert stat.S_IMODE((directory / "manager.secret").stat().st_mode) == 0o600
    secret = (directory / "manager.secret").read_text().strip()
    assert secret not in done.out + done.err

    rows = {row["name"]: row for row in json.loads(keys("list", "--json").out)}
    assert {name: row["role"] for name, row in rows.items()} == {
        "agentctl": "admin",
        "manager": "operate",
    }
    assert rows["manager"]["secret"] == str(directory / "manager.secret")
    assert rows["manager"]["public_key"] in keys("list").out


def test_a_caller_that_keeps_its_secret_gives_its_public_key_or_the_file_of_it(
    keys, directory, tmp_path
):
    one, two = make_pair().public, make_pair().public
    assert keys("add", "one", "--role", "read", "--public", one.decode()).code == 0
    (tmp_path / "two.key").write_bytes(two + b" admin\n")
    assert keys("add", "two", "--role", "read", "--public", str(tmp_path / "two.key")).code == 0

    assert (directory / "one.key").read_bytes() == one + b" read\n"
    assert (directory / "two.key").read_bytes() == two + b" read\n"
    assert not (directory / "one.secret").exists()


def test_adding_again_changes_the_role_and_keeps_the_key(keys, directory):
    keys("add", "manager", "--role", "operate")
    key, _ = (directory / "manager.key").read_bytes().split()
    assert keys("add", "manager", "--role", "admin").code == 0
    assert (directory / "manager.key").read_bytes() == key + b" admin\n"
    assert keys("add", "agentctl", "--role", "read").code == 0
    assert json.loads(keys("show", "agentctl", "--json").out)["role"] == "read"


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["add", "server", "--role", "read"], "invalid-argument"),
        (["add", "../x", "--role", "read"], "invalid-argument"),
        (["add", ".x", "--role", "read"], "invalid-argument"),
        (["add", "x", "--role", "read", "--public", "short"], "invalid-argument"),
        (["add", "x", "--role", "read", "--public", "~" * 40], "invalid-argument"),
        (["remove", "agentctl"], "invalid-argument"),
        (["remove", "nobody"], "not-found"),
        (["show", "nobody"], "not-found"),
    ],
)
def test_what_cannot_be_done_is_refused_with_a_hint_and_changes_nothing(
    keys, directory, arguments, code
):
    ensure_keys(directory)
    before = {path.name: path.read_bytes() for path in directory.iterdir()}
    done = keys(*arguments, "--json")
    assert done.code == 1
    error = json.loads(done.out)["error"]
    assert error["code"] == code
    assert error["hint"]
    assert {path.name: path.read_bytes() for path in directory.iterdir()} == before


def test_a_name_has_one_key_and_a_key_one_name(keys, directory):
    keys("add", "manager", "--role", "read")
    mine = (directory / "manager.key").read_text().split()[0]
    other = make_pair().public.decode()
    for arguments in (["manager", "--public", other], ["copy", "--public", mine]):
        done = keys("add", "--role", "read", *arguments, "--json")
        assert json.loads(done.out)["error"]["code"] == "conflict"


def test_a_pair_whose_making_was_interrupted_is_completed(keys, directory):
    keys("add", "manager", "--role", "read")
    whole = (directory / "manager.key").read_bytes()
    (directory / "manager.key").unlink()
    assert keys("add", "manager", "--role", "read").code == 0
    assert (directory / "manager.key").read_bytes() == whole


def test_a_removed_caller_leaves_nothing(keys, directory):
    keys("add", "manager", "--role", "read")
    assert keys("remove", "manager").code == 0
    assert not list(directory.glob("manager*"))


def test_the_agents_own_key_is_shown_and_no_secret_is(keys, directory):
    ensure_keys(directory)
    done = keys("show", "--json")
    assert json.loads(done.out)["public_key"] == (directory / "server.key").read_text().strip()
    assert (directory / "server.secret").read_text().strip() not in done.out + keys("show").out


def test_a_running_agent_does_as_it_is_said(keys, agentctl, served, directory, tmp_path):
    def devices(*arguments):
        return agentctl("devices", "list", "--agent", served.address, *arguments)

    keys("add", "manager", "--role", "read")
    far = tmp_path / "far"
    far.mkdir(mode=0o700)
    for name in ("server.key", "manager.secret"):
        (far / name).write_bytes((directory / name).read_bytes())
        (far / name).chmod(0o600)

    assert devices("--keys", str(far)).code == 0
    assert devices("--key", str(far / "manager.secret")).code == 0
    refused = agentctl(
        "config", "show", "--live", "--agent", served.address, "--keys", str(far), "--json"
    )
    assert json.loads(refused.out)["error"]["details"] == {"needs": "admin", "has": "read"}

    keys("remove", "manager")
    done = devices("--keys", str(far))
    assert done.code == 3
    assert "refused this key" in done.err


def test_keys_that_would_not_be_used_are_a_usage_error(agentctl, config):
    assert agentctl("status", "--key", "x.secret", "-f", config).code == 2
    both = ["--key", "x.secret", "--keys", "y"]
    assert agentctl("status", "--agent", "tcp://127.0.0.1:1", *both, "-f", config).code == 2


def test_of_several_keys_in_a_directory_one_must_be_named(keys, agentctl, directory):
    keys("add", "one", "--role", "read")
    keys("add", "two", "--role", "read")
    (directory / "agentctl.secret").unlink()
    done = agentctl("status", "--agent", "tcp://127.0.0.1:1", "--keys", str(directory))
    assert done.code == 1
    assert "one.secret, two.secret" in done.err
