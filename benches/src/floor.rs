//! The bare floors: round trips with the engine's slots through kernels that do nothing else.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tourbillon_device::arch::native::{load_chunk, store_chunk};
use tourbillon_shared::floor::{ECHOED_WORDS, FLOOR_SHARDS_MAX, FloorArguments, FloorStop, SHARD_WORD};
use tourbillon_shared::geometry::LaneAddresses;
use tourbillon_shared::position::RingShape;
use tourbillon_shared::ring::{Cells, read_slot, write_slot};
use tourbillon_shared::slot::{Chunk, DATA_WORDS_PER_SLOT, SLOT_BYTES, Slot};
use tourbillon_tools::latency::new_histogram;
use tourbillon_tools::random::Random;

use crate::cuda::{Context, CudaError, CudaResult, DeviceMemory, Function, Module, Pinned, Stream};
use tourbillon_benches::program::EXIT_CODE_STUCK;
use tourbillon_benches::results::Figure;

/// Slots of the ring, as many as a lane of the default engine has.
const CAPACITY: u32 = 1024;
/// Round trips before those that are measured: the first ones find cold caches and sleeping links.
const WARMUP_TRIPS: u32 = 2_000;
/// Round trips of a launch while geometries are compared.
const TRIAL_TRIPS: u32 = 5_000;
/// Round trips of a launch that counts.
const TRIPS: u32 = 20_000;
/// Launches that count.
const LAUNCHES: u32 = 10;
/// Looks between two readings of the clock.
const LOOKS_PER_CLOCK: u32 = 4096;
/// Longest wait for one reply: a kernel that takes longer is broken.
const REPLY_TIME_MAX: Duration = Duration::from_secs(2);
/// Longest wait for a kernel's end.
const EXIT_TIME_MAX: Duration = Duration::from_secs(5);

/// Which kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One block polls and answers.
    Direct,
    /// One block polls, the others answer.
    Gate,
}

/// What a floor was launched with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FloorGeometry {
    /// Warps of each block.
    pub warps: u32,
    /// Slots of one poll.
    pub poll_slots: u32,
}

/// The best geometry of a floor and what was measured with it.
#[derive(Clone, Debug)]
pub struct Floor {
    /// Median of each launch, nanoseconds.
    pub p50: Figure,
    /// 99 % of each launch, nanoseconds.
    pub p99: Figure,
    /// The geometry.
    pub geometry: FloorGeometry,
    /// Blocks of the launch.
    pub blocks: u32,
}

/// A ring in memory that the device sees.
struct Ring(*mut Slot);

impl Cells for Ring {
    fn load(&self, index: u32, chunk: u32) -> Chunk {
        // SAFETY: `index` is below the capacity and `chunk` below 4, as `Cells` says; the memory outlives the ring.
        unsafe { load_chunk(&raw const (*self.0.add(index as usize)).chunks[chunk as usize]) }
    }

    fn store(&self, index: u32, chunk: u32, value: Chunk) {
        // SAFETY: as above; the device never writes the request ring.
        unsafe { store_chunk(&raw mut (*self.0.add(index as usize)).chunks[chunk as usize], value) }
    }
}

/// Measures the floor `kind` in its best geometry, with as many blocks as the engine has.
pub fn measure(context: &Context, module: &Module<'_>, kind: Kind) -> CudaResult<Floor> {
    let mut best: Option<(u64, FloorGeometry)> = None;
    for warps in [1, 2, 3, 4] {
        for poll_slots in [1, 2, 4] {
            let geometry = FloorGeometry { warps, poll_slots };
            // The better of two launches: phases between the polls differ from launch to launch.
            let first = launch(context, module, kind, geometry, TRIAL_TRIPS)?.value_at_quantile(0.5);
            let second = launch(context, module, kind, geometry, TRIAL_TRIPS)?.value_at_quantile(0.5);
            let p50 = first.max(second);
            println!("  {kind:?} {warps} warp(s), {poll_slots} slot(s) a poll: p50 {first} and {second} ns");
            if best.is_none_or(|(least, _)| p50 < least) {
                best = Some((p50, geometry));
            }
        }
    }
    let Some((_, geometry)) = best else { return Err(CudaError("no geometry was tried".into())) };
    let mut medians = Vec::new();
    let mut tails = Vec::new();
    for _ in 0..LAUNCHES {
        let trips = launch(context, module, kind, geometry, TRIPS)?;
        medians.push(trips.value_at_quantile(0.5) as f64);
        tails.push(trips.value_at_quantile(0.99) as f64);
    }
    Ok(Floor {
        p50: Figure::median_of(&medians),
        p99: Figure::median_of(&tails),
        geometry,
        blocks: blocks(context, kind),
    })
}

fn shards(context: &Context) -> u32 {
    // One block a multiprocessor; one of them is the gate.
    (context.multiprocessors - 1).clamp(1, FLOOR_SHARDS_MAX)
}

fn blocks(context: &Context, kind: Kind) -> u32 {
    match kind {
        Kind::Direct => 1,
        Kind::Gate => 1 + shards(context),
    }
}

/// One launch: warm-up, `trips` measured round trips, and the kernel's end.
fn launch(
    context: &Context,
    module: &Module<'_>,
    kind: Kind,
    geometry: FloorGeometry,
    trips: u32,
) -> CudaResult<Histogram<u64>> {
    let shape = RingShape::new(CAPACITY).map_err(|error| CudaError(error.to_string()))?;
    let ring_bytes = CAPACITY as usize * SLOT_BYTES;
    let rings = Pinned::new(context, 2 * ring_bytes)?;
    let stop = Pinned::new(context, size_of::<FloorStop>())?;
    let lane = LaneAddresses {
        requests: rings.device(),
        replies: rings.device() + ring_bytes as u64,
        capacity_log2: shape.capacity_log2(),
        ..LaneAddresses::default()
    };
    let lanes = DeviceMemory::of(context, &[lane])?;
    let mirror = DeviceMemory::new(context, size_of::<FloorStop>())?;
    let mut arguments = FloorArguments {
        lanes_at: lanes.address(),
        stop_at: stop.device(),
        mirror_at: mirror.address(),
        lanes: 1,
        gates: 1,
        shards: shards(context),
        capacity_log2: shape.capacity_log2(),
        poll_slots: geometry.poll_slots,
        ..FloorArguments::default()
    };
    let inbox = DeviceMemory::new(context, arguments.inbox_bytes() as usize)?;
    arguments.inbox_at = inbox.address();
    if !arguments.is_valid() {
        return Err(CudaError(format!("arguments out of bounds: {arguments:?}")));
    }
    let on_device = DeviceMemory::of(context, &[arguments])?;
    let function = function_of(module, kind)?;
    let stream = Stream::new(context)?;
    stream.launch(function, blocks(context, kind), 32 * geometry.warps, Some(on_device.address()))?;

    let requests = Ring(rings.host().cast());
    let replies = Ring(rings.host().wrapping_add(ring_bytes).cast());
    let measured = trip_times(&requests, &replies, shape, arguments.shards, trips);
    // SAFETY: the word is in `stop`, page-aligned, and only this thread writes it; the device reads it as part of a
    // chunk.
    unsafe { store_chunk(stop.host().cast(), Chunk { words: [1, 0, 0, 0] }) };
    if let Err(error) = stream.synchronize_within(EXIT_TIME_MAX) {
        // Freeing what a running kernel uses would wait for it without end: nothing can be saved.
        eprintln!("{error}; {measured:?}");
        std::process::exit(EXIT_CODE_STUCK);
    }
    measured
}

fn function_of<'m>(module: &'m Module<'_>, kind: Kind) -> CudaResult<Function<'m>> {
    module.function(match kind {
        Kind::Direct => c"tourbillon_floor_direct",
        Kind::Gate => c"tourbillon_floor_gate",
    })
}

/// Sends one message at a time, compares each reply, and takes the time from the first store to the last load.
fn trip_times(
    requests: &Ring,
    replies: &Ring,
    shape: RingShape,
    shards: u32,
    trips: u32,
) -> CudaResult<Histogram<u64>> {
    let mut times = new_histogram();
    let mut random = Random::new(1, 0);
    for trip in 0..WARMUP_TRIPS + trips {
        let mut data: [u32; DATA_WORDS_PER_SLOT] = std::array::from_fn(|_| random.next_u64() as u32);
        data[SHARD_WORD] = random.below(u64::from(shards)) as u32;
        let position = u64::from(trip);
        let begin = Instant::now();
        write_slot(requests, shape, position, &data);
        let mut looks = 0u32;
        let reply = loop {
            if let Some(reply) = read_slot(replies, shape, position) {
                break reply;
            }
            std::hint::spin_loop();
            looks = looks.wrapping_add(1);
            if looks.is_multiple_of(LOOKS_PER_CLOCK) && begin.elapsed() > REPLY_TIME_MAX {
                return Err(CudaError(format!("no reply to message {trip} within {REPLY_TIME_MAX:?}")));
            }
        };
        let time = begin.elapsed();
        if reply[..ECHOED_WORDS] != data[..ECHOED_WORDS] {
            return Err(CudaError(format!("message {trip} came back with other words")));
        }
        if trip >= WARMUP_TRIPS {
            times.saturating_record(time.as_nanos() as u64);
        }
    }
    Ok(times)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers as a floor kernel does.
    fn answer(requests: usize, replies: usize, shape: RingShape, trips: u32) {
        let (requests, replies) = (Ring(requests as *mut Slot), Ring(replies as *mut Slot));
        for position in 0..u64::from(trips) {
            let data = loop {
                if let Some(data) = read_slot(&requests, shape, position) {
                    break data;
                }
                std::thread::yield_now();
            };
            write_slot(&replies, shape, position, &data);
        }
    }

    #[test]
    fn round_trips_are_counted_and_compared() {
        let shape = RingShape::new(CAPACITY).unwrap();
        let mut memory = vec![Slot::default(); 2 * CAPACITY as usize];
        let requests = memory.as_mut_ptr();
        let replies = requests.wrapping_add(CAPACITY as usize);
        let (a, b) = (requests as usize, replies as usize);
        // The kernel is slower than a test may be: few trips, on a machine of any load.
        let thread = std::thread::spawn(move || answer(a, b, shape, WARMUP_TRIPS + 500));
        let times = trip_times(&Ring(requests), &Ring(replies), shape, 7, 500).unwrap();
        thread.join().unwrap();
        assert_eq!(times.len(), 500);
    }
}
