"""What a kernel publishes: both spellings mean the same, and every fault is named."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_core.kernels.service_ports import (
    PROTOCOLS,
    ServicePort,
    read_services,
    with_built_in,
    with_label,
)
from agent_core.kernels.spec import Faults, read_spec

JUPYTER = ServicePort("jupyter", "http", (8080,))
BOARD = ServicePort("tb", "tcp", (6006, 6007))


@pytest.mark.parametrize(
    "value",
    [
        "jupyter:http:8080,tb:tcp:[6006,6007]",
        " jupyter:http:8080 , tb:tcp:[ 6006 , 6007 ] ",
        ["jupyter:http:8080", "tb:tcp:[6006,6007]"],
        [JUPYTER.to_data(), "tb:tcp:[6006,6007]"],
        [JUPYTER.to_data(), BOARD.to_data()],
    ],
)
def test_text_and_tables_say_the_same(value):
    assert read_services(value) == ((JUPYTER, BOARD), [])


@pytest.mark.parametrize("value", ["sshd,ttyd", "sshd:tcp:2200,ttyd:http:7681", ["sshd", "ttyd"]])
def test_the_systems_own_services_need_their_names_alone(value):
    own = (ServicePort("sshd", "tcp", (2200,)), ServicePort("ttyd", "http", (7681,)))
    assert read_services(value) == (own, [])


def test_a_node_may_have_every_kernel_publish_them():
    own = ServicePort("ttyd", "http", (7681,))
    assert with_built_in((JUPYTER,), ["ttyd"]) == ((JUPYTER, own), [])
    assert with_built_in((own,), ["ttyd"]) == ((own,), [])
    other = ServicePort("TTYD", "tcp", (9000,))
    assert with_built_in((other,), ["ttyd"]) == (
        (other,),
        ["'ttyd': another service is named 'TTYD'; it is not published"],
    )


@pytest.mark.parametrize("value", [None, "", " ", [], ()])
def test_nothing_is_published_unless_it_is_asked_for(value):
    assert read_services(value) == ((), [])


@pytest.mark.parametrize(
    ("value", "part"),
    [
        ("jupyter:http", "'jupyter:http' is not NAME:PROTOCOL:PORT"),
        ("jupyter:http:", "is not NAME"),
        ("jupyter:http:8080,", "'' is not NAME"),
        ("jupyter:http:[]", "is not NAME"),
        ("jupyter:http:[8080", "is not NAME"),
        ("jupyter:http:80801234567", "is not NAME"),
        ("a b:http:8080", "is not NAME"),
        ("jupyter:ftp:8080", "protocol 'ftp' is none of tcp, http"),
        ("jupyter:pty:8080", "protocol 'pty' is none of"),
        ("-x:http:8080", "'-x' is not a name"),
        ("x" * 64 + ":http:8080", "is not a name"),
        ("jupyter:http:1024", "port 1024 is not between 1025 and 65534"),
        ("jupyter:http:65535", "port 65535 is not between"),
        ("jupyter:http:2003", "port 2003 is the system's own"),
        ("jupyter:http:2200", "port 2200 is the system's own"),
        ("sshd:http:2200", "port 2200 is the system's own"),
        ("sshd:tcp:7681", "port 7681 is the system's own"),
        ("jupyter", "'jupyter' is not NAME"),
        ("jupyter:http:[8080,8080]", "a port is named twice"),
        ("a:http:8080,a:http:8081", "another service is named 'a'"),
        ("my-app:http:8080,MY_APP:http:8081", "another service is named 'my-app'"),
        ("a:http:8080,b:tcp:[8081,8080]", "'b': port 8080 is also of 'a'"),
        (5, "5 is not a list"),
        ({"name": "x"}, "is not a list"),
        ([5], "5 is not NAME"),
        ([{"protocol": "tcp", "container_ports": [9000]}], "None is not a name"),
        ([{**JUPYTER.to_data(), "port": 1}], "unknown key 'port'"),
        ([{**JUPYTER.to_data(), "container_ports": 8080}], "8080 is not a list of ports"),
        ([{**JUPYTER.to_data(), "container_ports": []}], "[] is not a list of ports"),
        ([{**JUPYTER.to_data(), "container_ports": [True]}], "True is not a port"),
        ([{**JUPYTER.to_data(), "container_ports": ["8080"]}], "'8080' is not a port"),
        ([{**JUPYTER.to_data(), "protocol": ["http"]}], "protocol ['http'] is none of"),
        ([{**JUPYTER.to_data(), "container_ports": [*range(3000, 3065)]}], "more than 64 ports"),
        ([f"p{n}:tcp:{n}" for n in range(3000, 3065)], "more than 64 ports in all"),
        ("a:tcp:[" + ",".join(map(str, range(3000, 3060))) + "],b:tcp:[9001,9002,9003,9004,9005]",
         "'b': with it there are more than 64 ports"),
    ],
)  # fmt: skip
def test_what_cannot_be_published_is_named(value, part):
    _, faults = read_services(value)
    assert len(faults) == 1, faults
    assert part in faults[0]


def test_every_fault_of_a_specification_is_named_beside_what_is_good():
    value = ["jupyter:http:80", "ok:tcp:9000", "x:ftp:99999", 7]
    services, faults = read_services(value)
    assert services == (ServicePort("ok", "tcp", (9000,)),)
    assert len(faults) == 4


def test_a_text_without_end_costs_no_time():
    _, faults = read_services("," * (512 << 10))
    assert len(faults) == 1
    assert len(faults[0]) < 200


def test_a_label_adds_to_what_is_asked_for():
    assert with_label((JUPYTER,), "tb:tcp:[6006,6007]") == ((JUPYTER, BOARD), [])
    assert with_label((JUPYTER,), "") == ((JUPYTER,), [])


def test_a_label_that_says_what_is_asked_for_too_adds_nothing():
    assert with_label((JUPYTER,), "jupyter:http:8080") == ((JUPYTER,), [])


def test_terminals_of_a_label_have_nothing_to_publish():
    assert with_label((), "ttyd:pty:7681, jupyter:http:8080") == ((JUPYTER,), [])


@pytest.mark.parametrize(
    ("label", "part"),
    [
        ("jupyter:http:8090", "'jupyter': another service is named 'jupyter'"),
        ("lab:http:8080", "'lab': port 8080 is also of 'jupyter'"),
        ("nonsense", "'nonsense' is not NAME"),
        ("web:http:80", "port 80 is not between"),
    ],
)
def test_what_a_label_may_not_publish_is_left_out_and_said(label, part):
    services, said = with_label((JUPYTER,), f"{label},tb:tcp:[6006,6007]")
    assert services == (JUPYTER, BOARD)
    (warning,) = said
    assert warning.startswith("image label ai.backend.service-ports: ")
    assert part in warning


NAMES = st.from_regex(r"[a-z][a-z0-9-]{0,8}", fullmatch=True)
PORTS = st.integers(min_value=8000, max_value=65534)


@given(
    st.lists(
        st.tuples(NAMES, st.sampled_from(PROTOCOLS), st.lists(PORTS, min_size=1, max_size=4)),
        max_size=6,
    )
)
def test_what_is_written_as_text_is_read_back_or_has_a_fault(items):
    text = ",".join(f"{name}:{of}:[{','.join(map(str, ports))}]" for name, of, ports in items)
    services, faults = read_services(text)
    numbers = [port for _, _, ports in items for port in ports]
    names = {name for name, _, _ in items}
    distinct = len({*numbers}) == len(numbers) and len(names) == len(items)
    assert (not faults) is distinct
    assert read_services([service.to_data() for service in services]) == (services, [])
    if distinct:
        assert services == tuple(ServicePort(name, of, tuple(ports)) for name, of, ports in items)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text() | st.binary(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_nonsense_is_a_fault_and_never_an_exception(value):
    services, faults = read_services(value)
    assert all(isinstance(service, ServicePort) for service in services)
    assert all(isinstance(fault, str) for fault in faults)


def test_a_specification_keeps_its_ports_whatever_their_spelling():
    faults = Faults()
    data = {"kernel_id": "k", "image": "python"}
    texts = read_spec({**data, "ports": "jupyter:http:8080"}, faults)
    tables = read_spec({**data, "ports": [JUPYTER.to_data()]}, faults)
    plain = read_spec(data, faults)
    assert faults.errors == []
    assert texts.ports == (JUPYTER,)
    assert texts.digest == tables.digest != plain.digest
    assert read_spec(texts.to_data(), faults) == texts
    assert "ports" not in plain.to_data()


def test_faults_of_ports_stand_beside_those_of_the_rest():
    faults = Faults()
    read_spec({"image": "", "ports": "a:http:80,b:ftp:9000"}, faults)
    messages = [error.message for error in faults.errors]
    assert len(messages) == 3
    assert [m for m in messages if m.startswith("ports: ")] == [
        "ports: 'a': port 80 is not between 1025 and 65534",
        "ports: 'b': protocol 'ftp' is none of tcp, http, preopen, vnc, rdp",
    ]
