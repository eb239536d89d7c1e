"""A plugin host for compute nodes.

Plugin authors need three modules of this package and no other: `agent_core.contracts` (what to
implement), `agent_core.hookspecs` (how to register it) and `agent_core.testing` (how to prove it).
"""

__version__ = "0.1.0"
