from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent_core.config.loader import load
from agent_core.config.quick import Glance, glance
from agent_core.contracts.errors import InvalidConfig

WORDS = st.sampled_from(['"a"', '"i-x.y"', '""', "5", '"../x"', '"~/x"', '"/abs"', '"rel/x"', "[]"])
LISTS = st.sampled_from(["[]", '["cuda"]', '["a", "b.c"]', '"cuda"', "[1]", "true"])
KEYS = {
    "agent": {
        "id": WORDS,
        "backend": WORDS,
        "mode": WORDS,
        "ipc-base-path": WORDS,
        "var-base-path": WORDS,
        "allow-compute-plugins": LISTS,
        "allowed-compute-plugins": LISTS,
        "block-compute-plugins": LISTS,
        "event-loop": WORDS,
    },
    "plugins": {"allow": LISTS, "block": LISTS},
    "container": {"scratch-type": WORDS, "runner": WORDS, "scratch-root": WORDS},
}
PLAIN = st.sampled_from(["a", "i-x", "a,b", '["a"]', "", "/x", "rel", "5", "~x"])


@st.composite
def files(draw: st.DrawFn) -> str:
    lines = []
    for section, keys in KEYS.items():
        chosen = draw(st.sets(st.sampled_from(sorted(keys)), max_size=4))
        lines += [f"[{section}]", *(f"{key} = {draw(keys[key])}" for key in sorted(chosen))]
    return "\n".join(lines)


VARIABLES = [
    f"AGENT_{section}__{key.replace('-', '_')}".upper()
    for section, keys in KEYS.items()
    for key in keys
]
ENVIRONMENTS = st.dictionaries(st.sampled_from(VARIABLES), PLAIN, max_size=2)


@given(files(), ENVIRONMENTS)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_the_quick_look_and_the_full_load_always_agree(
    tmp_path: Path, text: str, environ: dict[str, str]
) -> None:
    path = tmp_path / "agent.toml"
    path.write_text(text)
    places = ("HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR")
    environ = {name: os.environ[name] for name in places if name in os.environ} | environ
    try:
        loaded = load(path, environ=environ)
    except InvalidConfig:
        # Whatever the quick look does not need may be at fault; then it may answer.
        return
    config = loaded.config
    assert glance(path, environ=environ) == Glance(
        config.agent.id, config.paths, config.selection, path
    )


@pytest.mark.parametrize("text", ["[agent]\nid = 5\n", '[agent]\nid = "/"\n', "agent = 1\n", "x ="])
def test_a_fault_in_what_is_needed_is_the_same_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "agent.toml"
    path.write_text(text)
    with pytest.raises(InvalidConfig) as quick:
        glance(path, environ={})
    with pytest.raises(InvalidConfig) as full:
        load(path, environ={})
    assert quick.value.to_dict() == full.value.to_dict()


def test_a_fault_elsewhere_does_not_keep_a_command_from_its_agent(tmp_path: Path) -> None:
    path = tmp_path / "agent.toml"
    path.write_text('[agent]\nid = "i-a"\n[logging]\nlevel = "loud"\n')
    assert glance(path, environ={}).agent_id == "i-a"


def test_the_quick_look_imports_nothing_heavy(tmp_path: Path) -> None:
    path = tmp_path / "agent.toml"
    path.write_text('[agent]\nid = "i-a"\nallow-compute-plugins = ["mock"]\n')
    program = (
        "import sys; from pathlib import Path; from agent_core.config.quick import glance;"
        f"print(glance(Path({str(path)!r})).agent_id,"
        " {'pydantic', 'pydantic_settings', 'structlog', 'rich', 'asyncio'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "i-a set()\n", done.stderr


def test_the_full_load_leaves_the_environment_library_alone_when_no_variable_is_set(
    tmp_path: Path,
) -> None:
    program = (
        "import sys; from agent_core.config.loader import load; load(environ={});"
        "print({'pydantic_settings', 'rich'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.stdout == "set()\n", done.stderr
