#!/usr/bin/env bash
# The checked-in PTX is what the sources compile to, assembles for every supported chip, and keeps the rules.
set -euo pipefail
cd "$(dirname "$0")/.."

cargo xtask ptx --check --strict
