#!/bin/sh
# Installs every Debian package that building, testing and comparing needs. Idempotent; works as root and with sudo.
# `ci/install-packages.sh --list` prints the packages and installs nothing; `--cross` adds what `cargo xtask cross` needs.
set -eu

# Compilers, linkers and libraries of the victim programs.
victims="gcc g++ gcc-multilib g++-multilib clang lld lld-19 llvm libc++-dev libc++abi-dev libc6-dev libc6-dbg"
# What takes debug information apart, moves and compresses it.
tools="binutils dwz xz-utils zstd elfutils file procps time"
# What counts the instructions of the hot paths.
measures="valgrind"
# The peers of `postfault cross-check` (the third, eu-stack, is part of elfutils). Debian 12's default lldb, 14, cannot
# load its own Python module.
peers="gdb lldb-19"
# What building the workspace itself needs.
build="ca-certificates curl git make pkg-config"
packages="$victims $tools $measures $peers $build"
# With --cross: Debian's own compiler and its library source, for type-checks of other systems.
if [ "${1:-}" = --cross ]; then
    packages="$packages rustc-web cargo-web rust-web-src"
fi

if [ "${1:-}" = --list ]; then
    printf '%s\n' $packages
    exit 0
fi

missing=
for package in $packages; do
    state=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
    [ "$state" = installed ] || missing="$missing $package"
done
if [ -z "$missing" ]; then
    echo "all packages are installed"
    exit 0
fi

if [ "$(id -u)" = 0 ]; then
    as_root=
elif command -v sudo >/dev/null 2>&1; then
    as_root=sudo
else
    echo "error: these packages are missing and there is neither root nor sudo to install them:$missing" >&2
    exit 1
fi
$as_root apt-get update
# shellcheck disable=SC2086 # the list is meant to be split
$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $missing
