"""AgentNexus: an open economy for AI agents."""
