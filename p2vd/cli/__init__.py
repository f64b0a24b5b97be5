"""p2vctl, a D-Bus client."""
