#!/bin/sh
# Written by p2vd for the machine 6f0e1c1e-2a48-4b8a-9d3c-2f4f36a1f3a1: registers files1 on the Proxmox VE host on which it is to run.
#
#   files1-register.sh [--storage STORAGE] [--import] [VMID]
#
# The machine's volumes are used where they are, so this host must see them and have them active; with
# --import they are copied into STORAGE. STORAGE also takes the firmware's variables, which a UEFI machine needs.
# Without VMID the cluster's next free one is taken; a machine that has the number is not touched.
set -eu
conf=$(dirname "$0")/files1.conf
vmid='' storage='' import=''
while [ $# -gt 0 ]; do
    case $1 in
        --storage) storage=${2:?--storage needs a name}; shift ;;
        --import) import=yes ;;
        [1-9]*) vmid=$1 ;;
        *) echo "$0: $1 is not understood; see the head of this file" >&2; exit 2 ;;
    esac
    shift
done
if [ -n "uefi$import" ] && [ -z "$storage" ]; then
    echo "$0: --storage STORAGE is missing" >&2
    exit 2
fi
for disk in /dev/vg_san/files1; do
    if [ ! -e "$disk" ]; then
        echo "$0: this host does not see $disk: activate it (lvchange -ay)" >&2
        exit 1
    fi
done
if [ -z "$vmid" ]; then vmid=$(pvesh get /cluster/nextid); fi
if [ -e "/etc/pve/qemu-server/$vmid.conf" ] || qm status "$vmid" > /dev/null 2>&1; then
    echo "$0: $vmid is taken; name another VMID" >&2
    exit 1
fi
unfinished() {
    echo "$0: not finished; before another attempt: rm /etc/pve/qemu-server/$vmid.conf" >&2
}
trap unfinished EXIT
set -C
if [ -n "$import" ]; then
    grep -Ev '^(ide|sata|scsi|virtio)[0-9]+:' "$conf" > "/etc/pve/qemu-server/$vmid.conf"
    qm set "$vmid" --sata0 "$storage:0,"import-from=/dev/vg_san/files1,aio=native,cache=none,discard=on,serial=6508937515eb84cf0001
    qm set "$vmid" --boot 'order=sata0'
else
    cat "$conf" > "/etc/pve/qemu-server/$vmid.conf"
fi
qm set "$vmid" --efidisk0 "$storage:1,efitype=4m,pre-enrolled-keys=0"
trap - EXIT
echo "files1 is $vmid. Start it: qm start $vmid"
