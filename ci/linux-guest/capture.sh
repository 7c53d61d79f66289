#!/bin/busybox sh
# The capture kernel of the guest, started by the panic of the first: /proc/vmcore is the memory of the kernel that died. The
# snapshot is written first; then, for comparison only, the whole of it, and what makedumpfile makes of it.
/bin/busybox --install -s /bin
export PATH=/bin LD_LIBRARY_PATH=/lib
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
for module in $(cat /modules.list); do insmod "/modules/$module"; done
put() {
    dd if="$2" of="/dev/$1" bs=1M conv=fsync 2>/dev/null
    echo "guest: put $1 $(stat -c %s "$2")"
}

echo "guest: capture kernel"
ls -l /proc/vmcore
free
mkdir -p /out
/bin/gnu-time -v postfault capture /proc/vmcore -o /out/vmcore.pfsnap >/out/vmcore.report 2>/out/vmcore.time
echo "guest: vmcore capture returned $?"
cat /out/vmcore.time
tar cf /out.tar -C /out .
put vdb /out.tar
put vdc /proc/vmcore
if [ -e /bin/makedumpfile ]; then
    makedumpfile -c -d 31 --message-level 1 /proc/vmcore /vmcore.kdump && put vdd /vmcore.kdump
fi
sync
echo "guest: done"
poweroff -f
