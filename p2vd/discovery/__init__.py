"""What is there: sysfs, udev, iSCSI, multipath and LVM, as one immutable Inventory."""
