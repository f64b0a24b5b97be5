"""The lab: a QEMU virtual machine: Debian, its kernel, an iSCSI SAN, LVM, systemd, D-Bus and libvirt."""
