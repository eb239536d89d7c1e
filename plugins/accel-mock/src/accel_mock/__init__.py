"""Mock accelerators, declared in a file."""
