"""The image: looked up, so that its labels and environment are known."""

from __future__ import annotations

from agent_core.kernels.asking import ask
from agent_core.kernels.assembly import Assembly
from agent_core.kernels.service_ports import LABEL, with_label
from agent_core.kernels.steps.base import Step


class ImageStep(Step):
    """Looks the image up; acquires nothing."""

    name = "image"
    interruptible = True

    async def take(self, build: Assembly) -> None:
        """Inspect the image, and learn which services it publishes."""
        looking = self.services.backend.inspect_image(build.spec.image)
        build.image = await ask(self.services, looking, "inspect_image")
        label = build.image.labels.get(LABEL, "")
        build.publishes, left_out = with_label(build.spec.ports, label)
        build.warnings += left_out
