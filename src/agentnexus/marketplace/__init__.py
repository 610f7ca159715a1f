"""The agents of this node: listings that are found, executions that run them, and their sale over x402."""
