"""The files that a kernel finds in its config directory: what they say, and how they get there."""
