"""hostdir passes the suite that every scratch manager passes."""

from collections.abc import Mapping
from typing import Any

import pytest
from scratch_hostdir.plugin import HostDirScratch

from agent_core.testing import ScratchManagerContract


class TestHostDir(ScratchManagerContract):
    @pytest.fixture
    def plugin(self) -> type[HostDirScratch]:
        return HostDirScratch

    @pytest.fixture
    def bad_config(self) -> Mapping[str, Any]:
        return {}
