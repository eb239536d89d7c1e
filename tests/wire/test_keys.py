"""Key files are made once, for their owner alone, and a damaged one is named."""

import stat
from pathlib import Path

import pytest

from agent_core.contracts.errors import InvalidConfig
from agent_core.wire.keys import (
    Caller,
    ensure_keys,
    is_public_key,
    make_pair,
    read_callers,
    read_client_keys,
    write_caller,
)
from agent_core.wire.roles import Role


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "state" / "keys"


def test_the_first_start_makes_both_pairs_and_the_second_reads_them(directory):
    first = ensure_keys(directory)
    client = read_client_keys(directory)

    assert ensure_keys(directory) == first
    assert client.server == first.pair.public
    assert read_callers(directory) == [Caller("agentctl", client.pair.public, Role.ADMIN)]
    assert client.pair.secret != first.pair.secret


def test_nobody_else_can_read_any_of_it(directory):
    ensure_keys(directory)

    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()}
    assert modes == dict.fromkeys(
        ["server.key", "server.secret", "agentctl.key", "agentctl.secret"], 0o600
    )


def test_a_secret_is_not_shown(directory):
    keys = ensure_keys(directory)

    assert keys.pair.secret.decode() not in repr(keys)


def test_a_public_half_that_a_crash_left_out_is_made_again(directory):
    first = ensure_keys(directory)
    (directory / "server.key").unlink()

    assert ensure_keys(directory) == first
    assert (directory / "server.key").exists()


@pytest.mark.parametrize("role", Role)
def test_whose_key_lies_in_the_directory_may_call_with_the_role_behind_it(directory, role):
    ensure_keys(directory)
    caller = Caller("manager", make_pair().public, role)
    write_caller(directory, caller)

    ensure_keys(directory)

    assert read_callers(directory)[1] == caller
    assert (directory / "manager.key").read_bytes() == caller.public + f" {role.label}\n".encode()
    assert stat.S_IMODE((directory / "manager.key").stat().st_mode) == 0o600


def test_a_file_without_a_role_means_admin_for_agentctl_and_read_for_a_stranger(directory):
    ensure_keys(directory)
    own = (directory / "agentctl.key").read_bytes().split()[0]
    (directory / "agentctl.key").write_bytes(own + b"\n")
    (directory / "manager.key").write_bytes(make_pair().public + b"\n")

    ensure_keys(directory)

    assert [(caller.name, caller.role) for caller in read_callers(directory)] == [
        ("agentctl", Role.ADMIN),
        ("manager", Role.READ),
    ]


@pytest.mark.parametrize("behind", [b" root", b" read admin", b" \xff", b" READ"])
def test_what_is_no_role_is_refused_and_the_roles_are_named(directory, behind):
    ensure_keys(directory)
    (directory / "manager.key").write_bytes(make_pair().public + behind)

    with pytest.raises(InvalidConfig, match=r"manager\.key does not name a role") as caught:
        ensure_keys(directory)
    assert "read, operate, admin" in str(caught.value.hint)


def test_agentctls_role_stays_what_it_was_made(directory):
    ensure_keys(directory)
    public = read_client_keys(directory).pair.public
    write_caller(directory, Caller("agentctl", public, Role.OPERATE))

    ensure_keys(directory)

    assert read_callers(directory)[0].role is Role.OPERATE


@pytest.mark.parametrize(
    ("text", "is_one"), [(b"~" * 40, False), (b"#" * 40, False), (b"a" * 39, False), (b"", False)]
)
def test_what_is_no_public_key_is_told_apart(text, is_one):
    assert is_public_key(text) is is_one
    assert is_public_key(make_pair().public)


def test_a_secret_that_others_can_read_is_refused(directory):
    ensure_keys(directory)
    (directory / "agentctl.secret").chmod(0o640)

    with pytest.raises(InvalidConfig, match="mode 0640") as caught:
        read_client_keys(directory)
    assert "chmod 600" in str(caught.value.hint)


@pytest.mark.parametrize("content", [b"", b"short", b"x" * 41, b"\xff" * 40, b"a b" * 13 + b"c"])
def test_a_damaged_key_is_named(directory, content):
    ensure_keys(directory)
    (directory / "server.key").write_bytes(content)

    with pytest.raises(InvalidConfig, match=r"server\.key"):
        read_client_keys(directory)


@pytest.mark.parametrize("content", [b"~" * 40, b"~,;\\" * 10])
def test_a_secret_of_the_right_length_that_is_no_key_is_named(directory, content):
    ensure_keys(directory)
    (directory / "agentctl.secret").write_bytes(content)

    with pytest.raises(InvalidConfig, match=r"agentctl\.secret"):
        read_client_keys(directory)


def test_missing_keys_are_named_with_the_way_to_get_them(directory):
    with pytest.raises(InvalidConfig, match="No such file") as caught:
        read_client_keys(directory)
    assert "first start" in str(caught.value.hint)


def test_a_place_where_no_keys_can_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")

    with pytest.raises(InvalidConfig, match="cannot make RPC keys"):
        ensure_keys(tmp_path / "file" / "keys")
