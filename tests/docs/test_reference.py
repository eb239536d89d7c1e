"""The reference has all that the code has, and says of it what is true."""

import ast
import importlib.util
import inspect
import json
import pkgutil
import re
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import get_args

import pytest
from agent_backend_docker.arguments import RESERVED
from agent_backend_docker.backend import PLACES, DockerBackend
from agent_backend_docker.declaration import CAPABILITIES_KEPT
from agent_backend_dummy.backend import DummyBackend
from agent_backend_process.backend import ProcessBackend

import agent_core
from agent_core.contracts import backend, device, errors, runner, scratch
from agent_core.contracts.backend import CAPABILITIES
from agent_core.contracts.edits import EDIT_FIELDS
from agent_core.host.states import PluginState
from agent_core.kernels.reconcile import Verdict
from agent_core.kernels.runner.messages import read_hello, read_report
from agent_core.kernels.states import KernelState, Reason
from agent_core.kernels.strangers import StrangerVerdict
from agent_core.wire.events import EVENTS, EventKind
from agent_core.wire.methods import METHODS
from agent_core.wire.models import CONDITIONS
from agent_core.wire.reconciling import Outcome

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = ROOT / "docs/reference"
BACKENDS = (DockerBackend, ProcessBackend, DummyBackend)


@pytest.fixture
def generator(monkeypatch):
    """Imports one module of the generator by name."""
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    return lambda name: importlib.import_module(f"generators.{name}")


def headings(path):
    return re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)


def test_the_generated_pages_are_those_that_the_code_makes_now():
    command = [sys.executable, str(ROOT / "docs/generate.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_stale_page_is_told_with_what_has_changed(generator, tmp_path):
    generate = importlib.import_module("generate") if generator("pages") else None
    page = tmp_path / "page.md"
    page.write_text("old\n")
    shown = generate.difference(page, "new\n")
    assert "-old" in shown
    assert "+new" in shown
    assert generate.difference(page, "old\n") == ""


def test_every_error_has_a_section_under_its_code():
    assert headings(REFERENCE / "errors.md")[1:] == [
        f"{error.code} {{ #{error.code} }}" for error in errors.all_errors()
    ]


def test_every_hint_of_an_error_is_in_its_section(generator):
    inline = generator("markdown").inline
    sections = (REFERENCE / "errors.md").read_text().split("\n## ")
    by_code = {section.partition(" ")[0]: section for section in sections}
    for error in errors.all_errors():
        hint = f"- hint: {inline(error.hint)}" if error.hint else "- retryable: "
        assert hint in by_code[error.code]


def test_every_method_is_listed_with_its_role():
    text = (REFERENCE / "rpc.md").read_text()
    for name, method in METHODS.items():
        assert f"| [`{name}`](#{name}) | {method.role.name.lower()} |" in text


def test_every_method_has_a_section():
    found = set(headings(REFERENCE / "rpc.md"))
    assert {f"{name} {{ #{name} }}" for name in METHODS} <= found


def test_every_state_of_a_plugin_has_a_section_that_says_what_to_do():
    found = headings(ROOT / "docs/how-to/why-not-loaded.md")
    assert [h for h in found if "{ #" in h] == [f"{s} {{ #{s} }}" for s in PluginState]


def test_every_state_and_reason_of_a_kernel_is_there():
    text = (REFERENCE / "kernel-states.md").read_text()
    assert all(f"| `{word}` |" in text for word in (*KernelState, *Reason))


def test_every_verdict_and_outcome_of_a_reconciliation_is_explained():
    text = (ROOT / "docs/how-to/find-and-mend-leaks.md").read_text()
    assert all(f"| `{word}` |" in text for word in (*Verdict, *StrangerVerdict, *get_args(Outcome)))


def test_every_event_is_there_with_its_data():
    text = (REFERENCE / "events.md").read_text()
    durable, _, passing = text.partition("## Progress")
    for kind in EVENTS.values():
        part = durable if kind.durable else passing
        assert f"| `{kind.name}` |" in part
        assert all(f"| `{key}` |" in part for key in kind.data)


def _told_names():
    """Yield where the agent tells of something, and every name that it may have there."""
    for module in pkgutil.walk_packages(agent_core.__path__, "agent_core."):
        tree = ast.parse(Path(importlib.util.find_spec(module.name).origin).read_text())
        for call in ast.walk(tree):
            if isinstance(call, ast.Call) and getattr(call.func, "attr", "") in TELLS:
                yield module.name, _names_of(call.args[0], importlib.import_module(module.name))


def _names_of(expression, module):
    """Evaluate the name of an event as its module does: one, or all that a table has."""
    if isinstance(expression, ast.Subscript):
        return list(eval(ast.unparse(expression.value), vars(module)).values())
    if ast.unparse(expression) == "news.kind.name":
        return [kind.name for kind in vars(module).values() if isinstance(kind, EventKind)]
    return [eval(ast.unparse(expression), vars(module))]


TELLS = {"add_event", "progress"}
"""The methods of the ledger and of the bus by which everything is told."""


def test_what_the_agent_tells_anywhere_is_declared_and_what_is_declared_is_told():
    told = dict.fromkeys(name for _, names in _told_names() for name in names)
    assert set(told) == set(EVENTS)


def test_every_capability_is_there():
    text = (REFERENCE / "capabilities.md").read_text()
    assert all(f"| `{name}` |" in text for name in CAPABILITIES)


def test_every_key_of_the_configuration_has_a_meaning_and_no_other(generator):
    configuration = generator("configuration")
    assert set(configuration.keys()) == configuration.MEANINGS.keys()


def test_every_field_of_edits_has_a_law_and_a_word_for_each_backend(generator):
    edits = generator("edits")
    assert set(edits.laws()) == set(EDIT_FIELDS)
    assert {name: dict(cells) for name, cells in edits.BACKENDS.items()} == {
        backend.info.name: dict(backend.edits) for backend in BACKENDS
    }
    text = (REFERENCE / "container-edits.md").read_text()
    for field in EDIT_FIELDS:
        outcomes = [backend.edits[field].outcome for backend in BACKENDS]
        cells = "".join(rf" {outcome}\b[^|\n]*\|" for outcome in outcomes)
        assert re.search(rf"^\| `{field}` \|{cells}$", text, re.MULTILINE), field


def test_every_capability_has_a_word_for_each_backend():
    text = (REFERENCE / "capabilities.md").read_text()
    for name in CAPABILITIES:
        words = " | ".join(backend.info.capabilities[name] for backend in BACKENDS)
        assert f"| `{name}` | {words} |" in text


def test_every_key_of_the_docker_backend_is_there_with_its_default_and_its_meaning():
    text = (REFERENCE / "docker-backend.md").read_text()
    for key, entry in _keys(DockerBackend.info.config_schema):
        assert entry["description"], key
        row = next(line for line in text.splitlines() if line.startswith(f"| `{key}` |"))
        assert row.endswith(f" | {entry['description']} |")
        assert "default" not in entry or f"| `{json.dumps(entry['default'])}` |" in row


def _keys(schema):
    """Yield every key of a schema, those of its inner tables too."""
    for key, entry in schema["properties"].items():
        yield key, entry
        if isinstance(inner := entry.get("additionalProperties"), dict):
            yield from _keys(inner)


def test_what_the_docker_backend_puts_into_each_container_is_there():
    text = (REFERENCE / "docker-backend.md").read_text()
    words = {*asdict(PLACES).values(), *RESERVED, *CAPABILITIES_KEPT}
    assert [word for word in words if f"`{word}`" not in text] == []


@pytest.mark.parametrize("module", [device, backend, scratch, runner], ids=lambda m: m.__name__)
def test_every_public_class_and_method_of_a_contract_is_there(module):
    kind = module.__name__.rpartition(".")[2]
    found = set(headings(REFERENCE / f"contract-{kind}.md"))
    for name, value in vars(module).items():
        is_own = isinstance(value, type) and value.__module__ == module.__name__
        if is_own and not name.startswith("_"):
            assert name in found
            methods = {f"{name}.{m}" for m, f in vars(value).items()
                       if inspect.isfunction(f) and not m.startswith("_")}  # fmt: skip
            assert methods <= found


def test_the_frames_of_the_runner_protocol_are_frames_that_the_agent_reads():
    text = (REFERENCE / "runner-protocol.md").read_text()
    frames = [json.loads(f) for f in re.findall(r"```json\n(.*?)\n```", text, re.DOTALL)]
    assert read_hello(frames[0]).kernel_id == "k"
    reports = [read_report(frame) for frame in frames if "seq" in frame and frame["type"] != "ack"]
    assert [report.seq for report in reports] == [*range(1, 12)]


def test_every_command_of_the_tree_has_a_section(generator):
    commands = generator("commands")
    anchors = re.findall(r"\{ #([\w-]+) \}", (REFERENCE / "cli.md").read_text())
    assert {"serve", "status", "plugins-why", "kernels-create", "exec", "leaks"} <= set(anchors)
    assert len(anchors) == commands.page().count("\n## agentctl")


# ---- pages that are written by hand -------------------------------------------------------------


def test_the_readme_has_two_commands_that_set_up_and_both_are_sessions():
    text = (ROOT / "README.md").read_text()
    assert re.findall(r"^\$ (python3 .*)$", text, re.MULTILINE) == [
        "python3 noxfile.py demo",
        "python3 noxfile.py tests",
    ]
    noxfile = (ROOT / "noxfile.py").read_text()
    assert "def demo(" in noxfile
    assert "def tests(" in noxfile


def test_every_link_of_the_readme_leads_to_a_file():
    text = (ROOT / "README.md").read_text()
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", text)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_every_decision_is_in_the_list_of_decisions():
    folder = ROOT / "docs/decisions"
    listed = (folder / "index.md").read_text()
    pages = sorted(p.name for p in folder.glob("0*.md"))
    assert pages
    assert [name for name in pages if f"]({name})" not in listed] == []


def test_the_site_asks_no_other_site_for_fonts_scripts_or_styles():
    text = (ROOT / "mkdocs.yml").read_text()
    assert "font: false" in text
    assert "http" not in text


@pytest.mark.parametrize("page", sorted((ROOT / "docs").rglob("*.md")), ids=lambda p: p.stem)
def test_json_blocks_are_json(page):
    for text in re.findall(r"^```json\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL):
        json.loads(text)


def test_every_condition_of_the_status_is_there():
    text = (REFERENCE / "json.md").read_text()
    assert all(f"| `{code}` | {meaning} |" in text for code, meaning in CONDITIONS.items())
