#!/usr/bin/env bash
# Every fault seeded in the sources makes the test fail that tests/mutants/mutants.toml names for it.
set -euo pipefail
cd "$(dirname "$0")/.."

cargo xtask mutants
