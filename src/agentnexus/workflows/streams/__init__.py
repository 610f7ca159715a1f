"""Live events of workflows for any number of watchers, from one reader of the database per process."""
