"""What runs inside the image's own interpreters: stand-alone scripts, each a single file."""
