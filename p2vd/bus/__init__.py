"""The D-Bus face: names, objects and authorization."""
