"""What only the source says: the words under members of an enumeration and under constants."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator, Sequence
from enum import Enum
from types import ModuleType

from generators.markdown import inline


def member_docs(enum: type[Enum]) -> dict[str, str]:
    """Collect the strings under an enumeration's members by name."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(enum)))
    body = tree.body[0].body if isinstance(tree.body[0], ast.ClassDef) else []
    return dict(_named_docs(body))


def constant_docs(module: ModuleType) -> dict[str, str]:
    """Collect the strings under a module's constants by name."""
    return dict(_named_docs(ast.parse(inspect.getsource(module)).body))


def _named_docs(body: Sequence[ast.stmt]) -> Iterator[tuple[str, str]]:
    for statement, following in zip(body, [*body[1:], None], strict=True):
        name = _target(statement)
        if name and isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant):
            yield name, inline(" ".join(str(following.value.value).split()))


def _target(statement: ast.stmt) -> str:
    target: ast.expr | None = None
    if isinstance(statement, ast.Assign):
        target = statement.targets[0]
    elif isinstance(statement, ast.AnnAssign):
        target = statement.target
    return target.id if isinstance(target, ast.Name) else ""
