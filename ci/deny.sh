#!/usr/bin/env bash
# The licences of all dependencies; all of deny.toml where cargo-deny is installed.
set -euo pipefail
cd "$(dirname "$0")/.."

if cargo deny --version >/dev/null 2>&1; then
    config=$PWD/deny.toml
    for workspace in . benches/peers; do
        cargo deny --manifest-path "$workspace/Cargo.toml" --all-features check --config "$config" bans licenses sources
    done
fi
cargo xtask licences
