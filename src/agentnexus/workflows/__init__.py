"""A task in plain words becomes a plan of paid steps, run durably: engine, planners, service, HTTP."""
