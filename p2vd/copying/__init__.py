"""Moves the bytes, proves them, and can be killed at any instruction."""
