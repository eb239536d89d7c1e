"""The Docker backend of agent-core."""
