"""Core files of kernels are found at their end, and kept (`[debug.coredump]`)."""

from __future__ import annotations

import pytest

from agent_core.kernels.cores import Cores, core_caution

CRASH = """
import subprocess
print(subprocess.run(["sh", "-c", "kill -SEGV $$"]).returncode)
"""


@pytest.mark.skipif(core_caution() is not None, reason="this host sends core files elsewhere")
def test_the_core_of_a_kernel_is_kept_and_the_oldest_go(node, tmp_path):
    kept = tmp_path / "kept"
    node.configure(
        f'[debug.coredump]\nenabled = true\npath = "{kept}"\nbackup-count = 1\nsize-limit = "32M"\n'
    )
    node.start()
    for _ in range(2):
        kernel = node.create()
        limit = node.run(kernel, "import resource; print(resource.getrlimit(4)[0])")[0]
        assert limit == f"{32 << 20}\n"
        assert node.run(kernel, CRASH)[0] == "-11\n"
        node.destroy(kernel)
    (core,) = kept.iterdir()
    assert core.name == f"{kernel}.1.core"
    assert core.read_bytes()[:4] == b"\x7fELF"
    assert core.stat().st_mode & 0o777 == 0o600


def test_what_only_looks_like_a_core_is_left(tmp_path):
    work, secret = tmp_path / "work", tmp_path / "secret"
    work.mkdir()
    secret.write_text("not for anybody")
    (work / "core").symlink_to(secret)
    (work / "core.d").mkdir()
    (work / "core.2").hardlink_to(secret)
    (work / "core.3").write_bytes(bytes(9))
    (work / "core.4").write_bytes(bytes(8))
    Cores(tmp_path / "kept", 5, 8).collect("k", work)
    assert [core.name for core in (tmp_path / "kept").iterdir()] == ["k.1.core"]
    Cores(tmp_path / "kept", 5, 8).collect("gone", tmp_path / "gone")
    assert secret.read_text() == "not for anybody"


@pytest.mark.parametrize(
    ("pattern", "what"),
    [("core", None), ("|/usr/bin/apport %p", "a program"), ("/var/crash/%e", "a directory")],
)
def test_a_host_that_sends_cores_elsewhere_is_told(tmp_path, pattern, what):
    path = tmp_path / "core_pattern"
    path.write_text(f"{pattern}\n")
    said = core_caution(path)
    assert (said is None) if what is None else (what in said)
