"""An in-memory SAN behind the doors of the operating system, for `p2vd --sim`. Nothing in it is real."""
