#!/usr/bin/env bash
# Installs what turns the device crates into PTX and checks the result, on Debian: a rustc with NVPTX backend and library
# sources, and ptxas. Running it again changes nothing.
set -euo pipefail
cd "$(dirname "$0")/.."

ptxas_version=13.0.88
folder=target/device-toolchain
ptxas=$folder/nvidia/cu13/bin/ptxas

as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi
}

has_compiler() {
    local minor
    minor=$(/usr/bin/rustc -V 2>/dev/null | sed -n 's/^rustc 1\.\([0-9]*\)\..*/\1/p')
    [ -n "$minor" ] && [ "$minor" -ge 96 ] && [ -x /usr/bin/cargo ] \
        && [ -e "$(/usr/bin/rustc --print sysroot)/lib/rustlib/src/rust/library/core/src/lib.rs" ]
}

if has_compiler; then
    echo "device compiler: $(/usr/bin/rustc -V)"
elif command -v apt-get >/dev/null; then
    as_root apt-get update -q
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends \
        rustc-web cargo-web rust-web-src rust-web-llvm
    has_compiler || { echo "the packages are there, but /usr/bin/rustc is not 1.96 or newer with its sources" >&2; exit 1; }
    echo "device compiler: $(/usr/bin/rustc -V)"
else
    echo "no Debian: use rustup toolchain install nightly --component rust-src (of April 2026 or later)" >&2
    exit 1
fi

if [ ! -x "$ptxas" ]; then
    mkdir -p "$folder"
    # The assembler alone, out of a wheel: nothing is installed, no CUDA toolkit is needed.
    python3 -m pip download --quiet --no-deps --only-binary :all: --platform manylinux2014_x86_64 --dest "$folder" \
        "nvidia-cuda-nvcc==$ptxas_version"
    python3 -m zipfile -e "$folder"/nvidia_cuda_nvcc-$ptxas_version-*.whl "$folder/unpacked"
    mkdir -p "$(dirname "$ptxas")"
    mv "$folder/unpacked/nvidia/cu13/bin/ptxas" "$ptxas"
    chmod +x "$ptxas"
    rm -r "$folder/unpacked" "$folder"/*.whl
fi
"$ptxas" --version | tail -n 2
