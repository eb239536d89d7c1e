"""The typed client of an agent's RPC: what agentctl and managers use."""

from agent_core.client.client import AgentClient

__all__ = ["AgentClient"]
