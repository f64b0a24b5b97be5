"""Drives disks and machines through their stages, and on after any crash."""
