"""The runner daemon: a process of the standard library alone, one thread, one event loop.

It starts in every kernel and its start is waited for, so the modules here import little, and what
the first hello does not need is imported after it. That is why there are no dataclasses, no enums
and no typing at run time, and why nothing of agent-core is imported.
"""
