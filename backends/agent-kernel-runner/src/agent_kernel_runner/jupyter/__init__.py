"""Queries in a Jupyter kernel of the image, of the standard library alone, as all of the daemon.

Nothing of it is imported where the runtime type of the image is another one.
"""
