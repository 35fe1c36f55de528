#!/usr/bin/env bash
# Formatting and lints of all crates, without and with the test-only features.
set -euo pipefail
cd "$(dirname "$0")/.."

cargo fmt --all --check
cargo fmt --manifest-path device/kernel/Cargo.toml --check
cargo fmt --manifest-path benches/peers/Cargo.toml --check
cargo clippy --workspace --all-targets --locked -- -D warnings
cargo clippy --workspace --all-targets --all-features --locked -- -D warnings
cargo clippy --manifest-path benches/peers/Cargo.toml --all-targets --locked -- -D warnings
