#!/usr/bin/env bash
# The documentation builds without a warning: no dead link, nothing public undocumented.
set -euo pipefail
cd "$(dirname "$0")/.."

RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked --quiet
