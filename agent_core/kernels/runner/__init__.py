"""The agent's side of the runner protocol: one link for each kernel, and the runs over it."""
