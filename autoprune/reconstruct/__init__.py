"""Least-squares refits."""
