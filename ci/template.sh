#!/usr/bin/env bash
# What `tourbillon new` writes builds and runs without a network, its actors compiled for GPUs as well.
set -euo pipefail
cd "$(dirname "$0")/.."

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cargo run --quiet --locked -- new "$folder/my-actors" > /dev/null
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target} CARGO_NET_OFFLINE=true
# The profile of the workspace, so that what it has compiled serves.
export CARGO_PROFILE_DEV_OPT_LEVEL=1
said=$(cd "$folder/my-actors" && cargo run --quiet -- --backend cpu)
echo "$said"
[[ $said == "account 42 has 10; backend: cpu on "* ]]
texts=("$CARGO_TARGET_DIR"/debug/build/my-actors-*/out/tourbillon_sm_80.ptx)
grep -q '^.visible .entry tourbillon_ring_kernel(' "${texts[@]}"
