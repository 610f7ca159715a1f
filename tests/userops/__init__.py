"""User operations, contract clients and deployment, on a real chain where a chain is needed."""
