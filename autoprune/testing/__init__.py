"""Contract tests for plug-ins."""
