"""The coupling graph."""
