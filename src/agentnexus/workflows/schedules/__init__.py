"""Tasks that begin by themselves, once per due time whatever happens to the processes."""
