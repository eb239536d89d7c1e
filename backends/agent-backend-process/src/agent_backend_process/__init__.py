"""Kernels as plain process trees: a container backend of agent-core that needs no runtime."""
