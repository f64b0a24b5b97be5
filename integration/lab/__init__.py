"""The lab: a QEMU virtual machine with a stock Debian kernel, an iSCSI SAN, LVM, systemd, D-Bus and libvirt."""
