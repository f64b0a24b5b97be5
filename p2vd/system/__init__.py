"""The only doors to the operating system: commands, block devices, descriptors, privileges."""
