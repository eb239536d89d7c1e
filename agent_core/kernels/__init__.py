"""The kernels of this node: their states, how they are built and undone, and the code they run."""
