"""cpu and mem pass the suite that every vendor's plugin passes."""

from collections.abc import Mapping
from typing import Any

import pytest

from agent_core.intrinsic.cpu import CpuDevice
from agent_core.intrinsic.mem import MemDevice
from agent_core.testing import ComputeDeviceContract


class TestCpu(ComputeDeviceContract):
    @pytest.fixture
    def plugin(self) -> type[CpuDevice]:
        return CpuDevice

    @pytest.fixture
    def bad_config(self) -> Mapping[str, Any]:
        return {"reserved": 100_000}


class TestCpuWithAPool(TestCpu):
    @pytest.fixture
    def config(self) -> Mapping[str, Any]:
        return {"cores": [0, 1, 2, 3], "reserved": 1, "shared": 2}


class TestMem(ComputeDeviceContract):
    @pytest.fixture
    def plugin(self) -> type[MemDevice]:
        return MemDevice

    @pytest.fixture
    def bad_config(self) -> Mapping[str, Any]:
        return {"reserved": "1e"}
