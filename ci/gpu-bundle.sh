#!/usr/bin/env bash
# Lays out target/gpu-bundle: tests and programs for a machine with a GPU and without compilers. There: run.sh test, run.sh bench.
set -euo pipefail
cd "$(dirname "$0")/.."

cargo xtask bundle
