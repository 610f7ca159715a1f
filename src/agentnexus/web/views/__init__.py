"""What pages show, as plain data: the only place where other rooms' models are read."""
