"""Which channels to keep."""
