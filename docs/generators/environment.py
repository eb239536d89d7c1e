"""The reference of what a kernel finds: variables, files, lines, and what has no meaning here."""

from __future__ import annotations

from agent_core.kernels.dotfiles import FIELDS, LARGEST, MOST
from agent_core.kernels.environment import VARIABLES
from agent_core.kernels.files.contents import FILES
from agent_core.kernels.files.resource import LINES
from agent_core.kernels.spec import LONGEST_ENTRY
from generators.markdown import code, table

_HEAD = """# Kernel environment

What code in a kernel finds of itself, of what it was given, and of its session. [Read what a
kernel was given](../how-to/read-what-was-given.md) shows it.

## Variables

From below: the image's environment, these, what the caller asked for, what the runner needs, and
what plugins set. The later goes before the earlier, so a caller may set any of these otherwise,
and nobody what [a plugin owns](container-edits.md): the kernel's warnings then say so.

"""
_VARIABLES = """
Those of accelerators are of one kind, the first by name: a kernel with `cuda.shares` and
`rocm.device` finds `GPU_TYPE=cuda`. What it has of other kinds is in `resource.json`.
`GPU_CONFIG` and `TF_GPU_MEMORY_ALLOC` are not there where nobody knows the memory of one of the
devices.

A variable with its name is at most {longest} bytes long, since Linux starts no process with a
longer one; a longer one is refused before anything is taken, as is one with a NUL character.

A backend may add variables of its own, by which it knows the processes of a container; and
`LD_PRELOAD`, where a plugin has libraries to preload.

## Files

They are in `BACKENDAI_CONFIG_DIR`. Each is whole at any time, also when the agent is killed while
it writes. A restart writes them anew. The environment and the private key are for the kernel's
own user alone. A simulated scratch, as of the dummy backend, has no files.

"""
_LINES = """
## resource.txt

"""
_HOME = """
## In the work directory

The `dotfiles` of the specification, each a table; `agentctl kernels create --dotfile` reads them
from files. At most {most}, of {largest} KiB each. They belong to the kernel's user. Each is put
there before the start where nothing is yet, so that a restart keeps what became of it. One that
cannot be put there is a warning of the kernel. The ledger holds them: a secret is better mounted.

{fields}
A kernel that has its session's key pair also finds it as `.ssh/id_rsa` and `.ssh/authorized_keys`,
where no dotfile is in their place.
"""
_QUOTING = """
Amounts are exact decimals, and sizes whole bytes without a suffix.

## How lines are quoted

`resource.txt` and `environ.txt` have one `KEY=value` a line. A value stands as it is, whatever
quotes, `=` or backslashes it has, so that splitting at the first `=` reads it. Only what a line
cannot hold is a JSON string: a value that begins with `"`, has a line break in it, or white space
at an end. Who does not want to know reads the `.json` beside it.

    PATHS=/a:b="c"
    TEXT="first line\\nsecond line"

Within a list `,` is between the items and `:` between their parts. Where a part has one of these,
a `%` or a line break in it, that stands as `%` and two hexadecimal digits, as in a URL: `/a:b` is
`/a%3Ab`.

## The key pair of a session

The kernels of one session on this node share one Ed25519 pair. The first that needs it makes it,
it is kept in the [state directory](state-directory.md) with mode 0600, a restart does not change
it, and it is removed with the last of them. It is in no ledger, record, event or log. Making one
needs `pip install "agent-core[ssh]"`; without it the kernels run without a pair and say so among
their warnings.

Whoever creates kernels on several nodes gives the pair: `cluster.ssh_keypair` with `public_key`
and `private_key`, and `cluster.mode = "multi-node"`, with which no node makes one of its own.
`cluster.ssh_ports` says for each host the address and port of its SSH service.

## What is not here

Names of the system that this one follows, and why they are not here:

"""

ABSENT = {
    "LOCAL_USER_ID, LOCAL_GROUP_ID, ADDITIONAL_GIDS": "say which user an entry point must become; "
    "no backend yet starts processes as another user than the agent's",
    "BACKENDAI_PERSISTENT_PATHS": "lists mounted folders; there are no volumes yet",
    "resource_base.txt, environ_base.txt": "copies from before something was appended; "
    "nothing is ever appended here",
    "kconfig.dat, recovery.json": "what the agent has to know of a kernel again; "
    "that is in its ledger",
    "docker-creds.json, intrinsic-ports.json": "are read by an entry point in the container",
    "UNIFIED_DEVICES with anything in it": "devices that every kernel has without asking; "
    "what a kernel has here was granted to it",
}
"""For each name that the seeds' system has and this one has not, why."""


def page() -> str:
    """Write the whole page."""
    variables = table(
        ["variable", "value"], [[code(name), said] for name, said in VARIABLES.items()]
    )
    files = table(["file", "what it is"], [[code(name), said] for name, said in FILES.items()])
    lines = table(["line", "value"], [[code(name), said] for name, said in LINES.items()])
    absent = table(["name", "why not"], [[f"`{n}`", why] for n, why in ABSENT.items()])
    told = _VARIABLES.format(longest=f"{LONGEST_ENTRY:,}")
    return "".join((_HEAD, variables, told, files, _home(), _LINES, lines, _QUOTING, absent))


def _home() -> str:
    fields = table(
        ["field of a dotfile", "meaning"], [[code(n), said] for n, said in FIELDS.items()]
    )
    return _HOME.format(most=MOST, largest=LARGEST >> 10, fields=fields)
