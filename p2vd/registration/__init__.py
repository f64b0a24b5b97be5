"""Hands the copied disks over to a hypervisor."""
