"""The kernel's side of agent-core's runner protocol."""
