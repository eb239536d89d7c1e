"""The reference of errors."""

from __future__ import annotations

from agent_core.contracts.errors import AgentError, all_errors
from generators.markdown import first_sentence, inline

_HEAD = """# Errors

Every error of the agent, the client and the command line has a **code** for machines, a **message**
that says what happened and where, and most often a **hint** that says what to do. The RPC sends it
as one object, and a command with `--json` prints that object on the standard output:

```json
{
  "error": {
    "code": "unknown-slot",
    "message": "no ready plugin offers the slot 'cuda.share'",
    "hint": "Did you mean 'cuda.shares'?",
    "retryable": false,
    "details": {"slot": "cuda.share", "suggestion": "cuda.shares"}
  }
}
```

`retryable` means that asking again unchanged may succeed. A message may bring a hint of its own;
the hints below are those of the class. A plugin may raise any of these; the host passes it on
unchanged.
"""


def page() -> str:
    """Write one section for each error, parents before children."""
    return _HEAD + "".join(_section(error) for error in all_errors())


def _section(error: type[AgentError]) -> str:
    parent = error.__mro__[1]
    lines = [
        f"\n## {error.code} {{ #{error.code} }}\n",
        first_sentence(error.__doc__) + "\n",
        f"- class: `{error.__name__}`" + _kind_of(parent),
        f"- retryable: {'yes' if error.retryable else 'no'}",
    ]
    if error.hint:
        lines.append(f"- hint: {inline(error.hint)}")
    return "\n".join(lines) + "\n"


def _kind_of(parent: type) -> str:
    if not issubclass(parent, AgentError):
        return ""
    return f", a kind of [`{parent.code}`](#{parent.code})"
