"""Smaller networks."""
