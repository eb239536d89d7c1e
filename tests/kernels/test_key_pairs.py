"""The key pair of a session: made once, kept, private, and readable by others' tools."""

import stat
import sys

import pytest
from cryptography.hazmat.primitives.serialization import load_ssh_private_key, load_ssh_public_key

from agent_core.contracts.errors import InternalError, Unsupported
from agent_core.kernels.key_pairs import KeyPair, KeyPairs, make_pair, read_pair

GIVEN = KeyPair("ssh-ed25519 AAAA x", "-----BEGIN OPENSSH PRIVATE KEY-----\n")


@pytest.fixture
def pairs(tmp_path):
    return KeyPairs(tmp_path / "keys")


def test_both_halves_belong_together_as_openssh_reads_them():
    pair = make_pair("s")
    public = load_ssh_private_key(pair.private_key.encode(), None).public_key()
    assert public == load_ssh_public_key(pair.public_key.encode())
    assert pair.public_key.startswith("ssh-ed25519 ")
    assert pair.public_key.endswith(" s")


def test_a_session_has_one_pair_until_it_is_forgotten(pairs, tmp_path):
    first = pairs.ensure("s", None)
    assert KeyPairs(tmp_path / "keys").ensure("s", None) == first
    assert pairs.ensure("other", None) != first
    pairs.forget("s")
    pairs.forget("s")
    assert pairs.ensure("s", None) != first


def test_the_file_is_for_the_agent_alone(pairs, tmp_path):
    pairs.ensure("s", None)
    modes = [stat.S_IMODE(p.stat().st_mode) for p in (tmp_path / "keys", tmp_path / "keys/s.json")]
    assert modes == [0o700, 0o600]


def test_a_given_pair_is_kept_for_those_who_do_not_know_it(pairs):
    assert pairs.ensure("s", GIVEN) == GIVEN
    assert pairs.ensure("s", None) == GIVEN
    assert pairs.ensure("s", make_pair("s")) == GIVEN


def test_a_pair_is_not_shown_with_its_private_half():
    assert "BEGIN" not in repr(GIVEN)


def test_without_the_library_it_is_said_what_to_install(pairs, monkeypatch):
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives", None)
    with pytest.raises(Unsupported) as caught:
        pairs.ensure("s", None)
    assert "agent-core[ssh]" in caught.value.hint
    assert pairs.ensure("s", GIVEN) == GIVEN


@pytest.mark.parametrize("name", ["../s", "", "a/b", "."])
def test_what_is_no_session_names_no_file(pairs, name):
    with pytest.raises(InternalError):
        pairs.forget(name)


def test_a_damaged_file_is_named(pairs, tmp_path):
    pairs.ensure("s", None)
    (tmp_path / "keys/s.json").write_text('{"public_key": 1')
    with pytest.raises(InternalError, match=r"s\.json"):
        pairs.ensure("s", None)


def test_a_good_pair_of_a_caller_is_read():
    table = {"public_key": GIVEN.public_key + "\n", "private_key": GIVEN.private_key}
    assert read_pair(table) == (GIVEN, [])
    assert read_pair(None) == (None, [])


@pytest.mark.parametrize(
    "value",
    [
        "s3cret",
        {},
        {"public_key": "s3cret", "private_key": "s3cret"},
        {"public_key": "a b\nc s3cret", "private_key": "-----BEGIN s3cret"},
        {"public_key": 1, "private_key": "-----BEGIN s3cret"},
        {"public_key": "a b", "private_key": "-----BEGIN s3cret" * 9999},
        {"public_key": "a b", "private_key": "-----BEGIN s3cret", "more": 1},
    ],
)
def test_a_faulty_pair_is_refused_without_quoting_it(value):
    pair, faults = read_pair(value)
    assert pair is None
    assert faults
    assert "s3cret" not in " ".join(faults)
