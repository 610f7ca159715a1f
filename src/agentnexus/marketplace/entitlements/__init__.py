"""Rights to run agents that were bought: who may run what, runs that use them up, and what sellers get for those."""
