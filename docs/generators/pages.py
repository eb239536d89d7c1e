"""Every generated page: its path, and what writes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from generators import (
    commands,
    configuration,
    contracts,
    edits,
    environment,
    errors,
    models,
    plugin_keys,
    resources,
    rpc,
    states,
)

PAGES: Mapping[str, Callable[[], str]] = {
    "errors.md": errors.page,
    "kernel-states.md": states.kernels,
    "plugin-states.md": states.plugins,
    "rpc.md": rpc.page,
    "events.md": rpc.events,
    "json.md": rpc.shapes,
    "failpoints.md": states.failpoints,
    "configuration.md": configuration.page,
    "container-edits.md": edits.page,
    "kernel-environment.md": environment.page,
    "model-definition.md": models.page,
    "capabilities.md": resources.capabilities,
    "docker-backend.md": plugin_keys.docker,
    "slots.md": resources.slots,
    "cli.md": commands.page,
    "contract-device.md": contracts.device,
    "contract-backend.md": contracts.backend,
    "contract-scratch.md": contracts.scratch,
    "contract-runner.md": contracts.runner,
    "contract-common.md": contracts.common,
}
"""For each file in docs/reference, the function that writes its text without the first line."""
