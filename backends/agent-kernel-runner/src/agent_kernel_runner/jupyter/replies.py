"""How a kernel says that code has ended, as an exit code."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_INTERRUPTED = 130


def exit_code_of(content: dict[str, Any]) -> int:
    """Read the reply to a request to run code; what Python's `sys.exit` was given counts."""
    status, name = content.get("status"), content.get("ename")
    if status == "ok":
        return 0
    if name == "KeyboardInterrupt" or status == "aborted":
        return _INTERRUPTED
    return _leaving(content.get("evalue")) if name == "SystemExit" else 1


def _leaving(value: object) -> int:
    if value in {"", "None", "False"}:
        return 0
    try:
        return int(value) & 0xFF if isinstance(value, str) else 1
    except ValueError:
        return 1
