"""cuda passes the suite that every device plugin passes, by the real binding."""

import pytest
from accel_cuda.plugin import CudaDevice

from agent_core.testing import ComputeDeviceContract

pytestmark = pytest.mark.requires("gcc")


class _OnStandin(ComputeDeviceContract):
    __test__ = False
    injection = "nodes"

    @pytest.fixture
    def plugin(self):
        return CudaDevice

    @pytest.fixture
    def config(self, nvml):
        self.arrange(nvml)
        return {"root": str(nvml.root), "injection": self.injection}

    @pytest.fixture
    def bad_config(self):
        return {"injection": "magic"}

    def arrange(self, nvml):
        """Leave the two whole cards."""


class TestWholeCards(_OnStandin):
    __test__ = True


class TestPartitions(_OnStandin):
    __test__ = True
    injection = "cdi"

    def arrange(self, nvml):
        nvml.show(
            nvml.gpu("GPU-a", 1),
            nvml.gpu("GPU-b", 2, mig=1),
            nvml.mig("GPU-b", "MIG-1", 1, 20),
            nvml.mig("GPU-b", "MIG-2", 2, 10),
            nvml.mig("GPU-b", "MIG-3", 3, 10),
        )


class TestAmongIllCards(_OnStandin):
    __test__ = True
    injection = "request"

    def arrange(self, nvml):
        nvml.show(
            nvml.gpu("GPU-a", 1, retired=1),
            nvml.gpu("GPU-b", 2, error=999, error_in="nvmlDeviceGetName"),
            nvml.gpu("GPU-c", 3),
        )
