#!/usr/bin/env bash
# Run a Python program with this tree under an emulated ARM processor (qemu-user), on Debian or Ubuntu on x86-64:
#
#     tests/arm.sh tests/arm_kernels.py                  # 64 answers must be those of every processor: half an hour
#     CPU=generic FEATURES=+neon tests/arm.sh …          # without dot products
#     CPU=neoverse-v1 FEATURES=+neon,+dotprod,+fp-armv8,+lse,+i8mm,+bf16 tests/arm.sh tests/arm_products.py
#                                                        # with matrix instructions: a quarter of an hour
#
# It needs qemu-user-static, and the packages of arm64 in apt's lists (`dpkg --add-architecture arm64; apt-get update`).
# Python and what kernels need are put into ARM_ROOT once, by default beside the system's other temporary files.
set -euo pipefail
tree=$(cd "$(dirname "$0")/.." && pwd)
root=${ARM_ROOT:-${TMPDIR:-/tmp}/llmpar-arm}
python=${PYTHON:-python3}
version=$(apt-cache show python3:arm64 | sed -n 's/^Version: \([0-9]*\.[0-9]*\).*/\1/p' | head -1)

if [ ! -e "$root/ready" ]; then
    mkdir -p "$root/debs" "$root/system" "$root/wheels" "$root/site"
    (
        cd "$root/debs"
        apt-get download libc6:arm64 "python$version-minimal:arm64" "libpython$version-minimal:arm64" \
            "libpython$version-stdlib:arm64" libstdc++6:arm64 libgcc-s1:arm64 zlib1g:arm64 libexpat1:arm64 \
            libssl3:arm64 libffi8:arm64 libsqlite3-0:arm64 libbz2-1.0:arm64 liblzma5:arm64 libuuid1:arm64
        for package in *.deb; do dpkg -x "$package" "$root/system"; done
    )
    "$python" -m pip download --quiet --no-deps --only-binary=:all: --python-version "$version" --dest "$root/wheels" \
        --platform manylinux_2_28_aarch64 --platform manylinux_2_27_aarch64 --platform manylinux_2_17_aarch64 \
        --platform manylinux2014_aarch64 numba llvmlite numpy xxhash
    for wheel in "$root"/wheels/*.whl; do "$python" -m zipfile -e "$wheel" "$root/site"; done
    touch "$root/ready"
fi
export NUMBA_CPU_NAME=${CPU:-neoverse-n1} NUMBA_CPU_FEATURES=${FEATURES:-+neon,+dotprod,+fp-armv8,+lse}
export NUMBA_CACHE_DIR="$root/kernels" LLMPAR_CACHE="$root/cache"
exec qemu-aarch64-static -cpu max -L "$root/system" -E PYTHONHOME="$root/system/usr" \
    -E PYTHONPATH="$tree:$tree/tests:$root/site" "$root/system/usr/bin/python$version" "$@"
