"""The environment of a kernel's container, put together from all who have a say in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from agent_core.contracts.amount import Amount
from agent_core.contracts.errors import KernelFailed
from agent_core.contracts.info import Support
from agent_core.kernels import accelerators
from agent_core.kernels.assembly import Assembly
from agent_core.kernels.cluster import VARIABLES as CLUSTER_VARIABLES
from agent_core.kernels.launching import WORK
from agent_core.kernels.published import VARIABLES as PUBLISHED_VARIABLES
from agent_core.kernels.published import environment as published
from agent_core.kernels.services import Services
from agent_core.kernels.spec import ENV_NAME, LONGEST_ENTRY, entry_size

CORE_COUNT: Final = "ai.backend.envs.corecount"
"""The label by which an image names the variables that are set to the number of cores."""


_SURELY_SHORT: Final = 4096
"""Characters of a value that need not be counted as bytes."""

VARIABLES: Final[Mapping[str, str]] = {
    "HOME": "the kernel's own directory, which is also the working directory",
    "BACKENDAI_CONFIG_DIR": "where the kernel finds the files below",
    "BACKENDAI_KERNEL_ID": "the kernel",
    "BACKENDAI_SESSION_ID": "its session",
    "BACKENDAI_KERNEL_IMAGE": "the image that it runs",
    "LOCAL_USER_ID": "the user that it runs as, where it is isolated",
    "LOCAL_GROUP_ID": "the group that it runs as, where it is isolated",
    **CLUSTER_VARIABLES,
    **PUBLISHED_VARIABLES,
    **accelerators.VARIABLES,
    f"<of the label {CORE_COUNT}>": "the number of cores, a part of one counted as one",
}
"""Every variable that the agent sets by itself, and what it says."""


def environment_of(services: Services, build: Assembly) -> dict[str, str]:
    """Lay the plugins' environment over the user's, the agent's own and the image's.

    Raises:
        KernelFailed: when a variable is too long for any process.
    """
    image = build.image.env if build.image else {}
    started = build.launch.env if build.launch else {}
    below = (image, _own(services, build), build.spec.env, started)
    env = build.edits.environment(*below)
    for name, value in env.items():
        if len(value) > _SURELY_SHORT and entry_size(name, value) > LONGEST_ENTRY:
            raise KernelFailed(
                f"env {name}: with its name longer than {LONGEST_ENTRY} bytes",
                hint="Linux starts no process with such a variable; make it shorter.",
            )
    return env


def overridden(build: Assembly) -> list[str]:
    """Say which variables a plugin has set in the place of the value that was asked for."""
    plugins = build.edits.resolve().env
    said = []
    for name in sorted(build.spec.env.keys() & plugins.keys()):
        owner = " and ".join(build.edits.sources("env", name))
        said.append(f"env {name}: set by plugin {owner}, the value asked for is not")
    return said


def _own(services: Services, build: Assembly) -> dict[str, str]:
    image = build.image.name if build.image else build.spec.image
    mapped = services.backend.capabilities().get("ports") is Support.YES
    return {
        **dict(_places(build)),
        **dict(_user(services)),
        "BACKENDAI_KERNEL_ID": build.spec.kernel_id,
        "BACKENDAI_SESSION_ID": build.spec.session_id,
        "BACKENDAI_KERNEL_IMAGE": image,
        **build.spec.cluster.environment(),
        **published(build.ports, mapped=mapped),
        **accelerators.variables(accelerators.accelerators_of(build.claims, services.allocator)),
        **_core_counts(build),
    }


def _user(services: Services) -> Iterator[tuple[str, str]]:
    if services.backend.capabilities().get("isolation") is Support.YES:
        yield "LOCAL_USER_ID", str(services.settings.kernel_user.uid)
        yield "LOCAL_GROUP_ID", str(services.settings.kernel_user.gid)


def _places(build: Assembly) -> Iterator[tuple[str, str]]:
    if build.paths is not None and build.paths.scratch:  # a simulated scratch is nowhere
        yield "HOME", str(Path(build.paths.scratch) / WORK)
        yield "BACKENDAI_CONFIG_DIR", build.paths.config


def _core_counts(build: Assembly) -> Mapping[str, str]:
    label = build.image.labels.get(CORE_COUNT, "") if build.image else ""
    names = [name.strip() for name in label.split(",") if ENV_NAME.fullmatch(name.strip())]
    grants = [grant for claim in build.claims for grant in claim.grants]
    cores = sum((grant.amount for grant in grants if grant.slot == "cpu"), Amount(0))
    if not cores:
        return {}
    whole = -(-cores.value // 10**cores.scale)  # half a core is one thread
    return dict.fromkeys(names, str(whole))
