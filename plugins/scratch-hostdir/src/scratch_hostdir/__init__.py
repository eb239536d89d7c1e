"""Scratch storage in plain directories of the host."""
