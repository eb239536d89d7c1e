"""The agent's front: RPC transport, methods and authentication."""
