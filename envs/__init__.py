"""The channel-pruning game."""
