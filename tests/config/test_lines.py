from __future__ import annotations

import tomllib
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from agent_core.config.lines import key_lines, line_of

TEXT = '''# a comment = 1
a = 1
[agent]
id = "x" # = [
"b.c".d = """
[foo]
x = 1
"""
list = [
  1, # ]
  "]",
]
inline = { host = "x", port = 1 }
[[agents]]
z.y = \'\'\'
k=1\'\'\'
[ plugin . "my plug" ]
q = 1979-05-27T07:32:00Z
'''


def test_tables_keys_and_strings_of_all_kinds_are_located() -> None:
    lines = key_lines(TEXT)
    assert lines["a",] == 2
    assert lines["agent", "id"] == 4
    assert lines["agent", "b.c", "d"] == 5
    assert lines["agent", "list"] == 9
    assert lines["agents", "z", "y"] == 15
    assert lines["plugin", "my plug", "q"] == 18
    assert ("foo",) not in lines


def test_what_is_not_located_is_found_at_its_parent() -> None:
    lines = key_lines(TEXT)
    assert line_of(lines, ("agent", "inline", "port")) == 13
    assert line_of(lines, ("nowhere",)) is None


_KEYS = st.text("abc-_1", min_size=1, max_size=4) | st.sampled_from(['"a b"', "'x.y'", '"["'])
_VALUES = st.sampled_from(
    ["1", "-2.5", "true", '"#"', '"\\""', "'\"'", '"""\n]"""', "'''\n= '''", "[\n1,\n]", "{a='}'}"]
)
_STATEMENTS = st.one_of(
    st.tuples(_KEYS, _VALUES).map(lambda pair: f"{pair[0]} = {pair[1]}"),
    st.tuples(_KEYS, _KEYS).map(lambda pair: f"[{pair[0]}.{pair[1]}]"),
    st.just("# comment ] = '"),
    st.just(""),
)


def _paths(tree: dict[str, Any], above: tuple[str, ...] = ()) -> set[tuple[str, ...]]:
    found = set()
    for key, value in tree.items():
        found.add((*above, key))
        if isinstance(value, dict):
            found |= _paths(value, (*above, key))
    return found


@given(st.lists(_STATEMENTS, max_size=12))
def test_every_key_that_the_parser_finds_has_a_line_and_no_other(statements: list[str]) -> None:
    text = "\n".join(statements)
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return
    lines = key_lines(text)
    inline = {path for path in _paths(tree) if path[-1] == "a" and path not in lines}
    assert set(lines) == _paths(tree) - inline
    numbered = text.split("\n")
    for path, line in lines.items():
        assert path[-1].strip("\"'") in numbered[line - 1]
