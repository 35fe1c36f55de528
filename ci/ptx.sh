#!/usr/bin/env bash
# The checked-in PTX is what the sources compile to, assembles for every supported chip, and keeps the rules.
set -euo pipefail
cd "$(dirname "$0")/.."

cargo xtask ptx --check --strict

# The systems of the examples are compiled for GPUs as a user's is. What they take of registers is for those who look.
PTXAS=/nonexistent cargo build --locked --quiet -p tourbillon-bank -p tourbillon-market -p tourbillon-press
for system in bank market press; do
    texts=("${CARGO_TARGET_DIR:-target}"/debug/build/tourbillon-$system-*/out/tourbillon_sm_80.ptx)
    grep -q '^.visible .entry tourbillon_ring_kernel(' "${texts[@]}"
done
