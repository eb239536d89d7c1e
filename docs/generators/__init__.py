"""What `docs/generate.py` writes: one module for each group of reference pages."""
