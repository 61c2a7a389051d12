"""Sources: how each system is discovered, split and read."""
