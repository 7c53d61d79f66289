#!/bin/sh
# Builds a tiny kernel, lets it panic under QEMU, and writes a small dump of it with what it said of itself:
#     ci/linux-guest/make-tiny.sh LINUX-SOURCE-FOLDER OUT
# needs Debian's bc, bison, busybox-static, dwarves, flex, gcc, libelf-dev, make, makedumpfile and qemu-system-x86, and
# drgn for what all stacks are. OUT/tiny.kdump, tiny.console and tiny.stacks.tsv are what testdata/kernel-dumps keeps.
set -eu
source=$(cd "$1" && pwd)
mkdir -p "$2"
out=$(cd "$2" && pwd)
here=$(cd "$(dirname "$0")" && pwd)
tree=$out/build
export KBUILD_BUILD_TIMESTAMP='2026-12-01' KBUILD_BUILD_USER=postfault KBUILD_BUILD_HOST=postfault

mkdir -p "$tree"
make -s -C "$source" O="$tree" tinyconfig
(cd "$source" && ./scripts/kconfig/merge_config.sh -O "$tree" -m "$tree/.config" "$here/tiny.config" >/dev/null)
make -s -C "$source" O="$tree" olddefconfig
grep -v '^# [^C]' "$here/tiny.config" | while read -r line; do
    grep -qxF "$line" "$tree/.config" || { echo "make-tiny: not in this kernel: $line" >&2; exit 1; }
done
make -s -C "$source" O="$tree" -j"$(nproc)" bzImage

cat >"$out/list" <<LIST
dir /dev 755 0 0
nod /dev/console 600 0 0 c 5 1
nod /dev/null 666 0 0 c 1 3
dir /bin 755 0 0
file /bin/busybox $(command -v busybox) 755 0 0
file /init $here/tiny-init.sh 755 0 0
LIST
"$tree/usr/gen_init_cpio" "$out/list" >"$out/initramfs"
rm -f "$out/console" "$out/flat.kdump" "$out/plain.kdump" "$out/memory.elf" "$out/tiny.kdump"
{
    n=0
    until grep -q 'end Kernel panic' "$out/console" 2>/dev/null; do
        n=$((n + 1))
        [ $n -lt 600 ] || break
        sleep 1
    done
    sleep 1
    echo "dump-guest-memory -z $out/flat.kdump"
    echo "dump-guest-memory $out/memory.elf"
    echo quit
} | qemu-system-x86_64 -accel tcg -cpu max,la57=off -m 64 -nodefaults -display none -no-reboot \
    -kernel "$tree/arch/x86/boot/bzImage" -initrd "$out/initramfs" \
    -append "console=ttyS0 panic=0 qemu_fw_cfg.ioport=0xc@0x510:0:1:4" \
    -device vmcoreinfo -serial "file:$out/console" -monitor stdio >"$out/monitor"
grep -q 'end Kernel panic' "$out/console" || { echo "make-tiny: the guest did not panic: $out/console" >&2; exit 1; }
tr -d '\r' <"$out/console" >"$out/tiny.console"
makedumpfile -R "$out/plain.kdump" <"$out/flat.kdump"
cargo run --quiet --release --package postfault-cli --example reduce-kernel-dump "$out/plain.kdump" "$out/tiny.kdump"
drgn -q -c "$out/memory.elf" -s "$tree/vmlinux" "$here/stacks.py" >"$out/tiny.stacks.tsv"
ls -l "$out"/tiny.*
