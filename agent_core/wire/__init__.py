"""What travels between a client and the agent: frames and typed models, shared by both sides."""
