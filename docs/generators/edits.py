"""The reference of ContainerEdits: every field, its law, and what the backends make of it."""

from __future__ import annotations

import re
from collections.abc import Mapping

from agent_backend_docker import declaration as docker
from agent_backend_dummy import declaration as dummy
from agent_backend_process import declaration as process

from agent_core.contracts import edits
from agent_core.contracts.edits import EDIT_FIELDS, ContainerEdits
from agent_core.contracts.info import EditOutcome, EditTreatment
from generators.contracts import attributes
from generators.markdown import code, inline, table
from generators.source import member_docs

_HEAD = """# ContainerEdits

A plugin says what a container needs, never how a runtime spells it. The host merges the replies
of all plugins of one kernel; the merge is commutative and associative. Each field has a law of
its own for the case that two plugins give the same key. A conflict is refused as
[`edits-conflict`](errors.md#edits-conflict) and names both plugins.

"""
_ENV = """
A variable is either in `env` or in `path_env` of all plugins together: in both it is a conflict.
The image's environment and the user's lie under the merged edits and never set a key that a
plugin owns.

## What the backends make of them

Each backend declares this of itself, and a test tries every cell on the backend. What a backend
refuses, it refuses as [`unsupported`](errors.md#unsupported) before it takes anything; the kernel's
create is undone.

"""

BACKENDS: Mapping[str, Mapping[str, EditTreatment]] = {
    "docker": docker.EDITS,
    "process": process.EDITS,
    "dummy": dummy.EDITS,
}
"""What each backend declares of itself."""


def laws() -> dict[str, str]:
    """Read the law of each field from the table in the module's docstring."""
    lines = (edits.__doc__ or "").split("================  ")[-2].splitlines()[1:]
    pairs = (re.split(r"\s{2,}", line.strip(), maxsplit=1) for line in lines if line.strip("= "))
    return {pair[0]: pair[1] for pair in pairs if len(pair) == 2}


def page() -> str:
    """Write the fields with their laws, and a column for each backend."""
    meanings, law = attributes(ContainerEdits.__doc__), laws()
    fields = [[code(name), inline(meanings[name]), law[name]] for name in EDIT_FIELDS]
    cells = [[code(f), *(_cell(told[f]) for told in BACKENDS.values())] for f in EDIT_FIELDS]
    parts = [_HEAD, table(["field", "what it is", "the same key twice"], fields), _ENV]
    outcomes = member_docs(EditOutcome)
    parts.append(table(["outcome", "meaning"], [[o, outcomes[o.name]] for o in EditOutcome]))
    parts += ["\n", table(["field", *map(code, BACKENDS)], cells)]
    parts.append("\nThe types of the entries are in [the common contract](contract-common.md).\n")
    return "".join(parts)


def _cell(treatment: EditTreatment) -> str:
    note = f": {treatment.note}" if treatment.note else ""
    return f"{treatment.outcome}{note}"
