"""Payment networks, one folder each, all behind the `Rail` and `Holding` ports."""
