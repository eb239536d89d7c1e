"""A kernel's environment: who has the last word, what it says of cores and accelerators."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_core.contracts.amount import Amount
from agent_core.contracts.backend import Image
from agent_core.contracts.device import Claim, Counter, Device, Grant, Offer
from agent_core.contracts.edits import ContainerEdits, MergedEdits
from agent_core.contracts.info import PluginInfo, SlotInfo, SlotType
from agent_core.contracts.runner import Launch
from agent_core.kernels.accelerators import accelerators_of, size_text, variables
from agent_core.kernels.assembly import Assembly
from agent_core.kernels.environment import VARIABLES, environment_of, overridden
from agent_core.kernels.spec import KernelSpec
from agent_core.resources.allocator import Allocator

GIB = 1 << 30


def card(kind, number, memory, **changes):
    """A card with a hundred parts and a counter of its memory, offered whole and in shares."""
    name = f"{kind}{number}"
    parts, counter = f"{name}.parts", f"{name}.mem"
    whole = {parts: 100, counter: memory}
    return Device(
        name,
        f"{kind.upper()} One",
        counters=(Counter(parts, 100), Counter(counter, memory, "bytes")),
        offers=(
            Offer(f"{kind}.device", Amount(1), whole),
            Offer(f"{kind}.shares", Amount(1, 2), {parts: 1, counter: memory // 100}),
        ),
        **changes,
    )


def node(**cards):
    allocator = Allocator()
    for kind, devices in cards.items():
        slots = tuple(SlotInfo(f"{kind}.{name}", SlotType.COUNT) for name in ("device", "shares"))
        allocator.update(kind, PluginInfo(kind="device", name=kind, slots=slots), devices)
    return allocator


def claims(allocator, **request):
    asked = {slot.replace("_", "."): Amount.parse(amount) for slot, amount in request.items()}
    return allocator.reserve("k", 1, asked).claims


def told(allocator, **request):
    return variables(accelerators_of(claims(allocator, **request), allocator))


def env_of(image=None, **build):
    capabilities = SimpleNamespace(capabilities=dict)
    services = SimpleNamespace(backend=capabilities, allocator=Allocator())
    spec = KernelSpec("k", "s", "python", env=build.pop("env", {}))
    made = Assembly(spec, 1, "c", Path("/run"), image=image, **build)
    return environment_of(services, made), overridden(made)


# ---- accelerators ------------------------------------------------------------------------------


def test_two_whole_cards_are_counted_with_all_their_memory():
    allocator = node(cuda=[card("cuda", 0, 40 * GIB), card("cuda", 1, 40 * GIB)])
    assert told(allocator, cuda_device="2") == {
        "GPU_TYPE": "cuda",
        "GPU_MODEL_NAME": "CUDA One",
        "GPU_CONFIG": "0:40g,1:40g",
        "TF_GPU_MEMORY_ALLOC": "0:40960,1:40960",
        "GPU_COUNT": "2",
        "N_GPUS": "2",
    }


def test_half_a_card_has_exactly_half_of_its_memory():
    allocator = node(cuda=[card("cuda", 0, 40 * GIB)])
    assert told(allocator, cuda_shares="0.5")["GPU_CONFIG"] == "0:20g"


def test_of_several_kinds_the_first_by_name_is_told():
    allocator = node(rocm=[card("rocm", 0, GIB)], cuda=[card("cuda", 0, GIB)])
    said = told(allocator, rocm_device="1", cuda_device="1")
    assert (said["GPU_TYPE"], said["GPU_COUNT"]) == ("cuda", "1")


def test_what_a_device_says_of_its_memory_goes_before_its_counters():
    device = card("cuda", 0, GIB, attributes={"memory": str(2 * GIB)})
    assert told(node(cuda=[device]), cuda_device="1")["GPU_CONFIG"] == "0:2g"


def test_of_memory_that_nobody_knows_nothing_is_said():
    plain = Device(
        "x0", "X", counters=(Counter("x0", 1),), offers=(Offer("x.device", Amount(1), {"x0": 1}),)
    )
    assert told(node(x=[plain]), x_device="1") == {
        "GPU_TYPE": "x",
        "GPU_MODEL_NAME": "X",
        "GPU_COUNT": "1",
        "N_GPUS": "1",
    }


def test_devices_that_are_not_reported_now_are_counted_all_the_same():
    held = claims(node(cuda=[card("cuda", 0, GIB)]), cuda_device="1")
    said = variables(accelerators_of(held, Allocator()))
    assert said == {"GPU_TYPE": "cuda", "GPU_COUNT": "1", "N_GPUS": "1"}


def test_a_kernel_without_accelerators_is_told_nothing():
    assert variables([]) == {}


@given(st.integers(0, 1 << 62))
def test_a_size_is_never_rounded(size):
    assert Amount.parse_size(size_text(size)) == Amount(size)


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0"), (1500000000, "1500000000"), (GIB, "1g"), (GIB + (1 << 20), "1025m")],
)
def test_a_suffix_is_there_only_where_it_is_exact(size, text):
    assert size_text(size) == text


# ---- the rest ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("cores", "said"), [("2", "2"), ("0.5", "1"), ("2.25", "3")])
def test_an_image_names_the_variables_that_count_cores(cores, said):
    image = Image("python", labels={"ai.backend.envs.corecount": "OMP_NUM_THREADS, NPROC,,no=name"})
    grant = Grant("cpu", "cpu0", Amount.parse(cores))
    env, _ = env_of(image, claims=(Claim("c", "k", 1, "cpu", (grant,)),), env={"NPROC": "9"})
    assert (env["OMP_NUM_THREADS"], env["NPROC"]) == (said, "9")
    assert "no=name" not in env


def test_a_plugin_has_the_last_word_then_the_runner_the_user_and_the_image():
    image = Image("python", env=dict.fromkeys("ABCD", "image"))
    plugin = MergedEdits.of("acme", ContainerEdits(env={"A": "plugin"}))
    launch = Launch(("/r",), {"A": "runner", "B": "runner"}, ())
    user = {"A": "user", "B": "user", "C": "user", "GPU_COUNT": "user"}
    env, warnings = env_of(image, edits=plugin, launch=launch, env=user)
    assert [env[name] for name in "ABCD"] == ["plugin", "runner", "user", "image"]
    assert env["GPU_COUNT"] == "user"
    assert warnings == ["env A: set by plugin acme, the value asked for is not"]


def test_every_variable_that_is_set_is_in_the_reference():
    allocator = node(cuda=[card("cuda", 0, GIB)])
    env, _ = env_of()
    said = {*env, *told(allocator, cuda_device="1")}
    assert said <= {*VARIABLES}
