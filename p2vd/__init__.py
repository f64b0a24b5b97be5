"""p2vd: moves the disks of physical machines onto LVM volumes of a SAN, with proof."""

__version__ = "0.1.0"
