"""Each check of the backends' conformance suite fails for its own reason, and only for that."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import pytest
from corpus import CHECKS, Expectation

HERE = Path(__file__).parent
CORPORA = ("bad_backends", "bad_files", "bad_options")
AT_ONCE = 4


def _load(name: str) -> list[Expectation]:
    spec = importlib.util.spec_from_file_location(name, HERE / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module.EXPECTED


LOADED = [(corpus, expected) for corpus in CORPORA for expected in _load(corpus)]
EXPECTED = {expected.name: expected for _, expected in LOADED}
SUITES = {each.name: f"{HERE / corpus}.py::Test{each.name}" for corpus, each in LOADED}
Outcomes = dict[str, dict[str, str]]


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Outcomes:
    """Run every bad backend's suite; for each, the tests that failed and why."""
    folder = tmp_path_factory.mktemp("bites")
    # Those that wait for their deadlines are spread over all the runs.
    names = sorted(EXPECTED, key=lambda name: not EXPECTED[name].hangs)
    shares = [names[n::AT_ONCE] for n in range(AT_ONCE)]
    reports = [folder / f"{n}.xml" for n in range(AT_ONCE)]
    runs = [_start(share, report) for share, report in zip(shares, reports, strict=True)]
    for run in runs:
        printed, _ = run.communicate(timeout=240)
        assert run.returncode in {0, 1}, printed
    return _read(reports)


def _start(names: list[str], report: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    command += [f"--junitxml={report}", f"--basetemp={report.with_suffix('')}"]
    command += [SUITES[name] for name in names]
    env = {k: v for k, v in os.environ.items() if k != "PYTEST_ADDOPTS"}
    return subprocess.Popen(
        command, cwd=HERE.parents[1], env=env, text=True, stdout=subprocess.PIPE
    )


def _read(reports: list[Path]) -> Outcomes:
    failed: Outcomes = defaultdict(dict)
    for report in reports:
        for case in ET.parse(report).iter("testcase"):
            suite = case.attrib["classname"].rpartition(".Test")[2]
            for fault in (*case.iterfind("failure"), *case.iterfind("error")):
                failed[suite][case.attrib["name"].removeprefix("test_")] = fault.text or ""
    return failed


def _expects(fails: Mapping[str, str], test: str) -> str | None:
    return next((reason for name, reason in fails.items() if test.startswith(name)), None)


@pytest.mark.timeout(300)  # the first of them waits for all the suites
@pytest.mark.parametrize("name", EXPECTED)
def test_a_bad_backend_fails_what_it_should_and_nothing_else(name: str, outcomes: Outcomes) -> None:
    fails, failed = EXPECTED[name].fails, outcomes[name]

    surplus = {test: why[-1500:] for test, why in failed.items() if _expects(fails, test) is None}
    missing = [test for test in fails if not any(name.startswith(test) for name in failed)]
    assert not surplus, f"{name} fails more than it should"
    assert not missing, f"the suite does not bite {name}"


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", EXPECTED)
def test_a_bad_backend_fails_for_its_own_reason(name: str, outcomes: Outcomes) -> None:
    for test, why in outcomes[name].items():
        reason = _expects(EXPECTED[name].fails, test)
        assert reason is not None
        assert reason in why, f"{name}: {test} fails for another reason: {why[-1500:]}"


def test_every_check_has_a_backend_that_fails_it() -> None:
    bitten = {test.partition("[")[0] for e in EXPECTED.values() for test in e.fails}

    unproven = {c for c in CHECKS if not any(c.startswith(f"test_{name}") for name in bitten)}
    assert not unproven


def test_no_two_bad_backends_have_one_name() -> None:
    assert len(EXPECTED) == len(LOADED)
