"""Which plugins the operator wants: the part of the configuration that the plugin host reads."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Selection:
    """The operator's choice of plugins, in terms of names and lists.

    List items match an entry point's name, a distribution's name or a dotted module path.

    Attributes:
        backend: The one backend to load (``[agent] backend``).
        scratch: The one scratch manager to load (``[container] scratch-type``); None takes the one
            that comes with the backend, and ``hostdir`` where none does.
        runner: The one kernel runner to load (``[container] runner``); None takes the one that
            comes with the backend, and ``default`` where none does.
        allow_devices: ``[agent] allow-compute-plugins``; None admits all, empty admits none.
        block_devices: ``[agent] block-compute-plugins``; wins over every allow list.
        allow: ``[plugins] allow``, for every kind; None admits all, empty admits none.
        block: ``[plugins] block``, for every kind; wins over every allow list.
        inline: ``[plugins] inline``; these run in the agent's own process, not in a worker.
    """

    backend: str = "process"
    scratch: str | None = None
    runner: str | None = None
    allow_devices: tuple[str, ...] | None = None
    block_devices: tuple[str, ...] = ()
    allow: tuple[str, ...] | None = None
    block: tuple[str, ...] = ()
    inline: tuple[str, ...] = ()
