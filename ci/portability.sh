#!/usr/bin/env bash
# The crates for hosts compile for machines that are not here. It borrows the device toolchain, which has the library
# sources: ci/setup-device-toolchain.sh.
set -euo pipefail
cd "$(dirname "$0")/.."

# Actors are not compiled for GPUs here: that is the same on all machines, and takes long.
export TOURBILLON_DEVICE_RUSTC=/nonexistent
# Nothing is run, so nothing is optimised: the workspace's own profile would optimise the library too.
# For Apple's machines, which have no GPU of this sort, what programs are built of is enough.
whole='--workspace --exclude xtask' parts='--package tourbillon --package tourbillon-tools'
for target in aarch64-unknown-linux-gnu aarch64-apple-darwin; do
    echo "checking for $target"
    packages=$whole
    [[ $target == *-apple-* ]] && packages=$parts
    # shellcheck disable=SC2086
    RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1 /usr/bin/cargo check $packages --locked --quiet \
        -Zbuild-std=std,panic_abort --config profile.dev.opt-level=0 --target "$target" --target-dir target/portability
done
