"""The image: looked up, and fetched where it is to be, so that its labels are known."""

from __future__ import annotations

from contextlib import aclosing

from agent_core.contracts.backend import Image
from agent_core.contracts.errors import ImageNotFound
from agent_core.contracts.info import Support
from agent_core.kernels.asking import ask
from agent_core.kernels.assembly import Assembly
from agent_core.kernels.demands import check_amounts, check_architecture
from agent_core.kernels.service_ports import LABEL, with_built_in, with_label
from agent_core.kernels.spec import KernelSpec
from agent_core.kernels.steps.base import Step
from agent_core.wire.content import PullProgress
from agent_core.wire.events import KERNEL_STEP


class ImageStep(Step):
    """Looks the image up, pulling it first where the specification says so; acquires nothing.

    A pull that is cut short by the kernel's end goes on: others may wait for the same image.
    """

    name = "image"
    interruptible = True

    async def take(self, build: Assembly) -> None:
        """Inspect the image, and learn which services it publishes."""
        build.image = await self._found(build.spec)
        self._check(build, build.image)
        label = build.image.labels.get(LABEL, "")
        services, left_out = with_label(build.spec.ports, label)
        build.publishes, more = with_built_in(services, self.services.settings.built_in_services)
        build.warnings += [*left_out, *more]

    def _check(self, build: Assembly, image: Image) -> None:
        """Refuse what cannot run here, or not with what the kernel has asked for."""
        if self.services.backend.capabilities().get("processes") is Support.YES:
            check_architecture(image)
        catalogue = self.services.allocator.catalogue
        build.warnings += check_amounts(image, build.spec.slots, catalogue)

    async def _found(self, spec: KernelSpec) -> Image:
        if spec.pull != "always":
            try:
                return await self._inspected(spec.image)
            except ImageNotFound:
                if spec.pull == "never" or not self._can_pull():
                    raise
        async with aclosing(self.services.pulls.pull(spec.image)) as progress:
            async for item in progress:
                self._tell(spec, item)
        return await self._inspected(spec.image)

    async def _inspected(self, name: str) -> Image:
        looking = self.services.backend.inspect_image(name)
        return await ask(self.services, looking, "inspect_image")

    def _can_pull(self) -> bool:
        return self.services.backend.capabilities().get("images.pull") is Support.YES

    def _tell(self, spec: KernelSpec, progress: PullProgress) -> None:
        data = {"step": self.name, "phase": "progress", **progress.model_dump(exclude_none=True)}
        bus = self.services.bus
        bus.progress(KERNEL_STEP.name, spec.kernel_id, spec.session_id, data)
