#!/bin/busybox sh
# The first kernel of the guest: looks at itself through /proc/kcore while it runs, writes down what the kernel itself says
# of the same, loads the capture kernel, and panics. Runs as its first process; `put` hands a file out on a drive.
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
# What the kernel says of every task: name, state, parent, how often it was switched, and its own unwinding of the stack.
tasks() {
    for folder in /proc/[0-9]*/task/[0-9]*; do
        [ -e "$folder/stat" ] || continue
        echo "task $(cat "$folder/stat" 2>/dev/null)"
        grep ctxt_switches "$folder/status" 2>/dev/null
        cat "$folder/stack" 2>/dev/null
    done
}

sleep 100000 &
mkfifo /fifo
cat /fifo &
sh -c 'read line </fifo' &
tail -f /dev/null &
# One that computes without end: it has no stack that could be read.
sh -c 'while :; do :; done' &
mkdir -p /out
sleep 2

tasks >/out/tasks.before
dmesg >/out/dmesg.before
/bin/gnu-time -v postfault capture /proc/kcore -o /out/kcore.pfsnap >/out/kcore.report 2>/out/kcore.time
echo "guest: kcore capture returned $?"
tasks >/out/tasks.after
cat /proc/modules >/out/modules
cat /sys/kernel/notes >/out/notes
cat /proc/kallsyms >/out/kallsyms
cat /out/kcore.time
postfault memory /proc/kcore "0x$(grep ' linux_banner$' /proc/kallsyms | cut -c1-16)" 48 --raw >/out/banner 2>/out/banner.err
cat /proc/version >/out/version
tar cf /out.tar -C /out .
put vda /out.tar
rm -r /out /out.tar

kexec -p /vmlinuz --initrd=/capture.img \
    --command-line="console=ttyS0 maxcpus=1 irqpoll reset_devices nokaslr panic=5" 2>&1
echo "guest: crash kernel loaded: $(cat /sys/kernel/kexec_crash_loaded)"
sync
echo c >/proc/sysrq-trigger
