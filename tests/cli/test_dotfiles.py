"""Files given to `kernels create --dotfile` reach the specification, or a message says why not."""

import pytest

CREATE = ("kernels", "create", "--image", "python", "--no-wait")


def test_a_dotfile_is_read_with_its_permissions(agent, agentctl, tmp_path):
    source = tmp_path / "rc"
    source.write_bytes("é=1\r\n".encode())
    source.chmod(0o640)
    done = agentctl(*CREATE, "--dotfile", f".config/rc={source}", "-f", agent.config)
    assert done.code == 0
    wanted = {"path": ".config/rc", "data": "é=1\r\n", "perm": "640"}
    assert agent.services.specs[0]["dotfiles"] == [wanted]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (".rc", "is not KEY=VALUE"),
        (".rc={folder}/none", "No such file"),
        (".rc={folder}", "Is a directory"),
        (".rc={folder}/binary", "is not text in UTF-8"),
    ],
)
def test_a_dotfile_that_cannot_be_read_is_a_usage_error(agent, agentctl, tmp_path, given, said):
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    done = agentctl(*CREATE, "--dotfile", given.format(folder=tmp_path), "-f", agent.config)
    assert done.code == 2
    assert said in done.err
    assert agent.services.specs == []
