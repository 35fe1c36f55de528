#!/usr/bin/env bash
# The models under loom: every interleaving of ring, turn and lifecycle, up to a bound on preemptions.
# `cargo test --workspace` runs them too; this runs nothing else.
set -euo pipefail
cd "$(dirname "$0")/.."

cargo test --workspace --test loom --locked
