"""NVIDIA GPUs and their MIG instances."""
