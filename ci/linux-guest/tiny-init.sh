#!/bin/busybox sh
# The first process of a tiny kernel: starts some that wait and one that computes, says what the kernel says of all of
# them, and panics. Lines that begin with "fact " are what the dump must say as well.
/bin/busybox mkdir -p /proc /sys
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sys /sys
b() { /bin/busybox "$@"; }
b mkfifo /fifo
b sleep 100000 &
b cat /fifo &
b tail -f /dev/null &
# It holds pages that no other process has.
b sh -c 'text=$(/bin/busybox seq 1 20000); while :; do /bin/busybox sleep 1000; done' &
b sleep 3
for folder in /proc/[0-9]*; do
    pid=${folder#/proc/}
    name=$(b cat "$folder/comm" 2>/dev/null) || continue
    parent=$(b sed -n 's/^PPid:\t//p' "$folder/status")
    state=$(b sed -n 's/^State:\t\(.\).*/\1/p' "$folder/status")
    resident=$(b sed -n 's/^Rss: *\([0-9]*\) kB/\1/p' "$folder/smaps_rollup" 2>/dev/null)
    echo "fact task $pid $parent $state ${resident:-none} $name"
done
echo "fact release $(b uname -r)"
echo "fact end"
echo c >/proc/sysrq-trigger
