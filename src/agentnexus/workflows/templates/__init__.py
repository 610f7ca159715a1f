"""Plans that are kept to be run again with other inputs and files."""
