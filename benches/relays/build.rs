//! Compiles the system for GPUs, where there is a device toolchain.

fn main() {
    tourbillon_build::system("Relays");
}
