"""Tests of p2vd on real storage: a throw-away virtual machine with its own SAN (see `lab`)."""
