"""A specification is read whole: every fault is named, and what is good is exact."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_core.contracts.errors import InvalidSpec, UnknownSlot
from agent_core.kernels.spec import FIELDS, Faults, read_spec


def read(data):
    faults = Faults()
    spec = read_spec(data, faults)
    return spec, [error.message for error in faults.errors]


def test_a_good_specification_has_no_faults_and_keeps_every_value():
    data = {
        "kernel_id": "k-1",
        "session_id": "s-1",
        "image": "python",
        "slots": {"cpu": "1"},
        "env": {"A": "x=y\nz"},
        "scratch_size": "1g",
    }
    spec, faults = read(data)
    assert faults == []
    assert spec.to_data() == data


def test_ids_are_made_up_when_absent_and_the_session_follows_the_kernel():
    spec, faults = read({"image": "python"})
    other, _ = read({"image": "python"})
    assert faults == []
    assert spec.session_id == spec.kernel_id
    assert spec.kernel_id != other.kernel_id


def test_five_mistakes_are_all_named():
    _, faults = read(
        {
            "kernel_id": "../../etc",
            "image": "",
            "slots": {"cpu": 1},
            "env": {"2BAD": "x"},
            "imagee": "python",
        }
    )
    assert len(faults) == 5
    text = "\n".join(faults)
    for part in ("'../../etc'", "image:", "slots.cpu", "'2BAD'", "did you mean 'image'"):
        assert part in text


@pytest.mark.parametrize(
    ("data", "part"),
    [
        ({"env": {"A": "\0"}}, "NUL"),
        ({"env": {"A": "x" * (300 << 10)}}, "larger than"),
        ({"env": []}, "not a table"),
        ({"slots": {"cpu": None}}, "slots.cpu"),
        ({"scratch_size": 5}, "not a string"),
        ({"session_id": "a/b"}, "session_id"),
        ({"kernel_id": ""}, "kernel_id"),
        ({"kernel_id": "x" * 64}, "kernel_id"),
    ],
)
def test_each_malformed_field_is_named(data, part):
    _, faults = read({"image": "python", **data})
    assert len(faults) == 1
    assert part in faults[0]


def test_one_fault_is_raised_as_itself_and_several_as_one():
    faults = Faults()
    faults.raise_if_any()
    faults.extend([UnknownSlot("no slot 'gpu'")])
    with pytest.raises(UnknownSlot):
        faults.raise_if_any()
    faults.add("image: a name is required")
    with pytest.raises(InvalidSpec) as caught:
        faults.raise_if_any()
    assert [fault["code"] for fault in caught.value.details["faults"]] == [
        "unknown-slot",
        "invalid-spec",
    ]
    assert caught.value.message.count("(") == 1  # what to do with the slot alone
    assert caught.value.hint == InvalidSpec.hint


def test_the_digest_tells_repetition_from_contradiction():
    base = {"kernel_id": "k", "image": "python", "env": {"A": "1", "B": "2"}}
    same = {"kernel_id": "k", "image": "python", "env": {"B": "2", "A": "1"}}
    other = {**base, "env": {"A": "1"}}
    assert read(base)[0].digest == read(same)[0].digest
    assert read(base)[0].digest != read(other)[0].digest


@given(st.dictionaries(st.sampled_from([*FIELDS, "x"]), st.from_type(object) | st.text()))
def test_no_value_whatever_makes_reading_fail(data):
    spec, _ = read(data)
    assert isinstance(spec.image, str)


def test_what_is_to_be_done_about_all_faults_is_said_once():
    faults = Faults()
    read_spec({"image": "", "pull": "seldom"}, faults)
    with pytest.raises(InvalidSpec) as raised:
        faults.raise_if_any()
    [image, pull] = [line for line in raised.value.message.splitlines() if line.startswith("  -")]
    assert image.endswith("(`agentctl images list` shows what this node has.)")
    assert pull.endswith("is not one of missing, always, never")
    assert raised.value.hint.startswith("Mend every fault listed")
