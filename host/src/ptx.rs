//! The system of the actors that come with Tourbillon, with its kernels for GPUs.

use tourbillon_device::{PtxText, SystemImage};

tourbillon_actors::shipped!();

include!(concat!(env!("OUT_DIR"), "/ptx_texts.rs"));

/// The system of the actors that come with Tourbillon, with the PTX that this program was built with.
pub fn shipped_image() -> SystemImage {
    Shipped::image().with_ptx(PTX_TEXTS)
}
