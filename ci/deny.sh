#!/usr/bin/env bash
# The licences of all dependencies; all of deny.toml where cargo-deny is installed.
set -euo pipefail
cd "$(dirname "$0")/.."

if cargo deny --version >/dev/null 2>&1; then
    cargo deny --all-features check bans licenses sources
fi
cargo xtask licences
