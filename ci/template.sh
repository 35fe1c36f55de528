#!/usr/bin/env bash
# What `tourbillon new` writes builds and runs without a network, its actors compiled for GPUs as well.
set -euo pipefail
cd "$(dirname "$0")/.."

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
# The program's own actors are not needed for that.
TOURBILLON_DEVICE_RUSTC=/nonexistent cargo run --quiet --locked -- new "$folder/my-actors" > /dev/null
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target} CARGO_NET_OFFLINE=true
# The profile of the workspace, so that what it has compiled serves.
export CARGO_PROFILE_DEV_OPT_LEVEL=1
said=$(cd "$folder/my-actors" && cargo run --quiet -- --backend cpu)
echo "$said"
[[ $said == "account 42 has 10; backend: cpu on "* ]]
texts=("$CARGO_TARGET_DIR"/debug/build/my-actors-*/out/tourbillon_sm_80.ptx)
grep -q '^.visible .entry tourbillon_ring_kernel(' "${texts[@]}"

# What the kernel takes is said, where the assembler is that tells it.
if [[ -n ${PTXAS:-} || -x target/device-toolchain/nvidia/cu13/bin/ptxas ]] || command -v ptxas > /dev/null; then
    reports=("$CARGO_TARGET_DIR"/debug/build/my-actors-*/out/tourbillon_sm_80.txt)
    grep -q '^registers: [1-9]' "${reports[@]}"
    grep -Eq '^ +[1-9][0-9]* +[0-9]+ +[0-9]+ +[0-9]+  Account / Deposit$' "${reports[@]}"
fi

# An actor in a module file: its panic is told with the file's name, on CPU threads and in the table beside the kernel's text.
cat > "$folder/my-actors/src/ratio.rs" <<'RUST'
use tourbillon::{Context, Handler, NoError, Plain, State, actor};

#[repr(C)]
#[derive(Clone, Copy, State)]
pub struct Ratio {
    last: u64,
}

#[repr(C)]
#[derive(Clone, Copy, Plain)]
pub struct Divide {
    pub by: u64,
}

impl Handler<Divide> for Ratio {
    type Reply = u64;
    fn handle(&mut self, divide: &Divide, _context: &mut Context) -> Result<u64, NoError> {
        self.last = 100 / divide.by;
        Ok(self.last)
    }
}

actor!(Ratio { kind: 1001, error: NoError, messages: { 0: Divide } });
RUST
sed -i 's/^system! .*/pub mod ratio;\nsystem! { pub struct Mine = [Account, ratio::Ratio]; }/' "$folder/my-actors/src/lib.rs"
sed -i 's/^    Ok(())/    let by = my_actors::ratio::Divide { by: 0 };\n    println!("{}", engine.client()?.call(7, by).unwrap_err());\n&/' \
    "$folder/my-actors/src/main.rs"
said=$(cd "$folder/my-actors" && PTXAS=/nonexistent cargo run -- --backend cpu 2>&1)
grep -q 'no ptxas, so what the kernel of Mine takes of registers, stack and spills is not known' <<< "$said"
grep -q 'the handler of my_actors::ratio::Divide of actor Ratio 7 panicked at src/ratio.rs:18:' <<< "$said"
grep -q 'files: &\[.*/my-actors/src/ratio.rs"' "$CARGO_TARGET_DIR"/debug/build/my-actors-*/out/tourbillon_ptx.rs

# A handler that calls itself ends the build, which says how it comes to that.
sed -i 's/self.balance += deposit.amount;/self.balance += steps(deposit.amount);/' "$folder/my-actors/src/lib.rs"
cat >> "$folder/my-actors/src/lib.rs" <<'RUST'

fn steps(of: u64) -> u64 {
    if of < 2 { of } else { steps(of - 1) ^ steps(of / 2) }
}
RUST
if said=$(cd "$folder/my-actors" && cargo build --quiet 2>&1); then
    echo "a handler that calls itself was compiled" >&2
    exit 1
fi
grep -q 'a handler calls itself: my_actors::steps, which calls my_actors::steps' <<< "$said"
grep -q 'write a loop' <<< "$said"
