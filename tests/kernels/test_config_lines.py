"""Any key, any value, any path: what is written into a kernel's files is what is read there."""

import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_core.kernels.files.lines import read_lines, read_list, write_lines, write_list

NASTY = st.sampled_from(
    ["", " ", '"', '"x', "a=b", "a\nb", "\r", "x\r\n", "\u2028", "\x85", "\\n", "a:b,c%3A", "한글"]
)
TEXTS = st.one_of(st.text(), NASTY, st.binary().map(os.fsdecode))


@given(st.dictionaries(TEXTS, TEXTS))
def test_any_keys_and_values_are_read_as_they_were_written(pairs):
    assert read_lines(write_lines(pairs)) == pairs


@given(st.dictionaries(TEXTS, TEXTS))
def test_a_file_in_any_encoding_of_bytes_keeps_them(pairs):
    data = write_lines(pairs).encode("utf-8", "surrogateescape")
    assert read_lines(data.decode("utf-8", "surrogateescape")) == pairs


@given(st.lists(st.lists(TEXTS, min_size=2, max_size=4).map(tuple)))
def test_any_parts_of_a_list_are_read_as_they_were_written(items):
    assert read_list(write_list(items)) == items


@given(st.dictionaries(TEXTS, st.lists(st.tuples(TEXTS, TEXTS))))
def test_lists_within_lines_are_read_as_they_were_written(lists):
    text = write_lines({key: write_list(items) for key, items in lists.items()})
    assert {key: read_list(value) for key, value in read_lines(text).items()} == lists


SIMPLE = st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters='"'))


@given(st.dictionaries(st.from_regex(r"[A-Z][A-Z0-9_.]*", fullmatch=True), SIMPLE))
def test_who_splits_at_the_first_equals_sign_reads_simple_values_exactly(pairs):
    lines = write_lines(pairs).splitlines()
    assert dict(line.split("=", 1) for line in lines) == pairs


@given(st.dictionaries(TEXTS, TEXTS))
def test_each_pair_is_one_line_for_whoever_counts_lines(pairs):
    assert len(write_lines(pairs).splitlines()) == len(pairs)


def test_a_value_that_no_line_can_hold_is_a_json_string():
    (line,) = write_lines({"A": "x\ny"}).splitlines()
    assert line == 'A="x\\ny"'
    assert json.loads(line.partition("=")[2]) == "x\ny"


def test_a_path_with_separators_is_escaped_as_in_a_url():
    assert write_list([("/a:b", "/c,d", "ro")]) == "/a%3Ab:/c%2Cd:ro"


@pytest.mark.parametrize("text", ["nothing", '"A"x', 'A="open', 'A="x"y'])
def test_what_is_no_line_is_refused(text):
    with pytest.raises(ValueError):
        read_lines(text)
