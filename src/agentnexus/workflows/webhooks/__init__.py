"""Events told to other programs: signed, at least once, with a log of every delivery."""
