"""mock passes the suite that every device plugin passes, in each way it offers devices."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from accel_mock.plugin import MockDevice

from agent_core.testing import ComputeDeviceContract

CARDS = """
slot_name = "cuda"
[[devices]]
mother_uuid = "d01"
model_name = "CUDA GPU"
numa_node = 0
subproc_count = 108
memory_size = "40G"
[[devices]]
mother_uuid = "d02"
model_name = "CUDA GPU"
subproc_count = 108
memory_size = "40G"
"""
PARTITION = """
[[devices]]
mother_uuid = "{mother}"
model_name = "MIG-10g"
subproc_count = 14
memory_size = "10G"
is_mig_device = true
"""
SCRIPT = """
[[links]]
devices = ["d01", "d02"]
[[script]]
device = "d01"
health = "unhealthy"
evidence = "a made-up error"
[[script]]
remove = "d02"
at = [1000, 2000]
"""
EXAMPLES = Path(__file__).parents[3] / "examples"
PARTITIONS = CARDS + PARTITION.format(mother="d01") + PARTITION.format(mother="d09")


class _OfFile(ComputeDeviceContract):
    __test__ = False
    text = CARDS
    settings: Mapping[str, Any] = {}

    @pytest.fixture
    def plugin(self) -> type[MockDevice]:
        return MockDevice

    @pytest.fixture
    def config(self, tmp_path: Path) -> Mapping[str, Any]:
        file = tmp_path / "mock-accelerator.toml"
        file.write_text(self.text)
        return {"file": str(file), **self.settings}

    @pytest.fixture
    def bad_config(self) -> Mapping[str, Any]:
        return {"file": "/no/such/file.toml"}


class TestFractional(_OfFile):
    __test__ = True


class TestDiscrete(_OfFile):
    __test__ = True
    settings: Mapping[str, Any] = {"allocation-mode": "discrete"}


class TestPartitions(_OfFile):
    __test__ = True
    text = PARTITIONS


class TestUnits(_OfFile):
    __test__ = True
    settings: Mapping[str, Any] = {"unit_mem": "1g", "unit_proc": 10, "quantum_size": "0.1"}


class TestScripted(_OfFile):
    __test__ = True
    text = CARDS + SCRIPT


class TestSeveralKinds(_OfFile):
    __test__ = True

    @pytest.fixture
    def config(self, tmp_path: Path) -> Mapping[str, Any]:
        other = tmp_path / "rocm.toml"
        other.write_text(CARDS.replace("cuda", "rocm").replace("d0", "e0"))
        file = tmp_path / "cuda.toml"
        file.write_text(PARTITIONS)
        return {"files": [str(file), str(other)], "kinds": {"rocm": {"quantum": "0.25"}}}


class TestExampleOfPartitions(_OfFile):
    __test__ = True
    text = (EXAMPLES / "cuda-mock-mig.toml").read_text()


class TestExampleOfRocm(_OfFile):
    __test__ = True
    text = (EXAMPLES / "rocm-mock.toml").read_text()
