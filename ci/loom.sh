#!/usr/bin/env bash
# The models under loom: every interleaving of ring, turn and lifecycle, up to a bound on preemptions.
set -euo pipefail
cd "$(dirname "$0")/.."

# Two preemptions find what pairs of accesses can do wrong; more multiply the time and found nothing further.
export LOOM_MAX_PREEMPTIONS="${LOOM_MAX_PREEMPTIONS:-2}"
RUSTFLAGS="--cfg loom" cargo test --package tourbillon-tests --test loom --locked --target-dir target/loom
