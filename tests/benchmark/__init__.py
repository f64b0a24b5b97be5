"""`tests/bench`: the goals of p2vd-copy, measured against the tools people use today."""
