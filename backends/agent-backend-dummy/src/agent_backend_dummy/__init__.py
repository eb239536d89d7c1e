"""A node that exists only in a file: the dummy backend of agent-core."""
