"""TLS in front of kernels' ports: the agent listens, and passes on what a kernel need not know."""
