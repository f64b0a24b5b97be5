"""What the virtual machine will be: machine, disks and policy to a definition. Pure."""
