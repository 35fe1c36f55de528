//! What the kernel of the latency bench gets that measures the price of a timestamp.
//!
//! One warp stamps batches as the engine does: it reads the device clock, takes the greatest of the frames' remote
//! timestamps, updates the shard's clock once, and hands each frame its timestamp. Every reading of the device clock is
//! kept, so that a host can work out what each timestamp had to be.

use bytemuck::{Pod, Zeroable};

/// Most frames of a batch: one for each lane of a warp.
pub const STAMPED_FRAMES_MAX: u32 = 32;
/// Arrivals that the kernel goes round: many windows, so that no two in a row have the same greatest timestamp.
pub const ARRIVALS: usize = 1024;

/// What `tourbillon_hlc_updates` gets: one pointer to this. Addresses are those of device memory. Launched with one
/// block of one warp.
#[repr(C, align(16))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct HlcArguments {
    /// Address of a u64: the shard's clock, the last timestamp that it gave. Read, and written at the end; meanwhile
    /// the clock is in the block's memory, as the engine's are.
    pub clock_at: u64,
    /// Address of [`ARRIVALS`] encoded [`Arrival`](crate::header::Arrival)s; frame `f` of batch `b` has number
    /// `(b * frames + f) % ARRIVALS`.
    pub arrivals_at: u64,
    /// Address of `batches` u64: what each batch read from the device clock, in nanoseconds. Written.
    pub readings_at: u64,
    /// Address of [`STAMPED_FRAMES_MAX`] u64: the timestamps of the last batch, 0 past its frames. Written.
    pub stamps_at: u64,
    /// Address of two u64: the device clock before the first and after the last batch, in nanoseconds. Written.
    pub times_at: u64,
    /// What is added to the device clock to get the Unix time, in nanoseconds; wraps.
    pub clock_offset_ns: u64,
    /// Batches, at least 1.
    pub batches: u32,
    /// Frames of each batch, `1 ..= STAMPED_FRAMES_MAX`. One frame takes the engine's short way.
    pub frames: u32,
    /// Zero.
    pub reserved: [u32; 2],
}

const _: () = {
    assert!(size_of::<HlcArguments>() == 64);
    assert!(ARRIVALS.is_power_of_two() && ARRIVALS.is_multiple_of(STAMPED_FRAMES_MAX as usize));
};
