"""Slots, inventory and allocation: who may have what, decided without any I/O."""
