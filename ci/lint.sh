#!/usr/bin/env bash
# Formatting and lints of all crates, without and with the test-only features.
set -euo pipefail
cd "$(dirname "$0")/.."

cargo fmt --all --check
cargo fmt --manifest-path device/kernel/Cargo.toml --check
cargo fmt --manifest-path benches/peers/Cargo.toml --check
# All targets but those that `cargo test` leaves out: the suites, which are in one program as well.
targets=(--lib --bins --examples --tests --benches)
cargo clippy --workspace "${targets[@]}" --locked -- -D warnings
cargo clippy --workspace "${targets[@]}" --all-features --locked -- -D warnings
# In the folder of the others, so that it finds what they have compiled.
cargo clippy --manifest-path benches/peers/Cargo.toml --target-dir "${CARGO_TARGET_DIR:-target}" --all-targets --locked \
    -- -D warnings
