//! Litmus tests of the memory operations on the hardware, and what each ordering costs.
//!
//! Each shape runs for a share of the time that is given, then those that can once more as a control, without the fence
//! or the order that they are about. What a word of a round is and how it is judged stands in
//! `tourbillon_shared::litmus`.

use std::ffi::CStr;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytemuck::Zeroable;
use tourbillon_shared::litmus::{
    ARENA_CHUNKS, LITMUS_ROUNDS_MAX, LITMUS_THREADS_MAX, LitmusArguments, LitmusOutcome, PAYLOAD_CHUNKS, PRICE_BYTES,
    Price, PriceArguments, lost_updates, total,
};
use tourbillon_shared::slot::Chunk;

use crate::cuda::{Context, CudaError, CudaResult, DeviceMemory, Module, Pinned, Stream};
use crate::litmus_host::{Channel, End, serve};
use tourbillon_benches::program::EXIT_CODE_STUCK;
use tourbillon_benches::results::{Figure, Results};

/// The ring kernel, of which the registers are told.
pub const RING_KERNEL: &CStr = c"tourbillon_ring_kernel";
/// Looks of an observer, at most: a bound beside the deadline, far beyond it.
const LOOKS_MAX: u32 = u32::MAX;
/// What a kernel may take beyond its time: it then is stuck.
const OVERTIME: Duration = Duration::from_secs(5);
/// Bytes from head to head in host memory: a line each, so that channels do not wait for each other.
const LINE_BYTES: u32 = 128;
/// The same in device memory: the least that a multiprocessor fetches.
const SECTOR_BYTES: u32 = 32;
/// Threads of a block across the bus: two warps.
const BUS_THREADS: u32 = 64;
/// Threads of the host, at most: more would not write faster than the bus takes it.
const HOST_THREADS_MAX: usize = 4;
/// A control gets this part of a shape's time.
const CONTROL_SHARE: f64 = 0.5;
/// Rounds of each price: the slowest takes 10 ms, a thousand steps of the device clock.
const PRICE_ROUNDS: u32 = 1 << 13;
/// Launches of the prices, after one that warms up.
const PRICE_LAUNCHES: u32 = 5;
/// Longest time of such a launch.
const PRICE_TIME_MAX: Duration = Duration::from_secs(2);
/// How often the kernels are compiled.
const JIT_RUNS: u32 = 3;
/// The option under which this program compiles the kernels and says how long it took.
pub const JIT_OPTION: &str = "jit";

/// Who takes part in a shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Host and device: so many blocks, and what the host does.
    Bus(u32, End),
    /// Pairs of blocks.
    Blocks,
    /// The warps of each block; whether they update counters under a lock.
    Block(bool),
}

/// A shape.
#[derive(Clone, Copy, Debug)]
struct Shape {
    name: &'static str,
    kernel: &'static CStr,
    place: Place,
    /// Whether it can do without what it is about.
    has_control: bool,
}

const SHAPES: [Shape; 8] = [
    Shape {
        name: "to_device",
        kernel: c"tourbillon_litmus_to_device",
        place: Place::Bus(4, End::Send),
        has_control: true,
    },
    Shape {
        name: "to_host",
        kernel: c"tourbillon_litmus_to_host",
        place: Place::Bus(4, End::Watch),
        has_control: true,
    },
    Shape { name: "echo", kernel: c"tourbillon_litmus_echo", place: Place::Bus(4, End::Echo), has_control: false },
    Shape { name: "arena", kernel: c"tourbillon_litmus_arena", place: Place::Bus(8, End::Arena), has_control: true },
    Shape { name: "chunks", kernel: c"tourbillon_litmus_chunks", place: Place::Blocks, has_control: true },
    Shape { name: "messages", kernel: c"tourbillon_litmus_messages", place: Place::Blocks, has_control: true },
    Shape { name: "lock", kernel: c"tourbillon_litmus_lock", place: Place::Block(true), has_control: false },
    Shape { name: "countdown", kernel: c"tourbillon_litmus_countdown", place: Place::Block(false), has_control: false },
];

/// What was observed of a shape.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Observed {
    rounds: u64,
    forbidden: u64,
}

/// Runs all shapes and their controls for `seconds` together, then takes the prices.
///
/// # Errors
/// A driver call fails, a forbidden outcome was seen, or a shape had none to see; the results have been added then.
pub fn measure(context: &Context, module: &Module<'_>, seconds: f64, results: &mut Results) -> CudaResult<()> {
    let shares: f64 = SHAPES.iter().map(|shape| if shape.has_control { 1.0 + CONTROL_SHARE } else { 1.0 }).sum();
    let time = Duration::from_secs_f64(seconds / shares);
    let mut faults = Vec::new();
    let (mut all, mut of_controls) = (Observed::default(), Observed::default());
    for shape in &SHAPES {
        let observed = run(context, module, shape, time, false)?;
        results.add(&format!("litmus_rounds_{}", shape.name), count(observed.rounds), "count", None);
        faults.extend(fault(shape.name, observed));
        all = all.and(observed);
        if shape.has_control {
            let control = run(context, module, shape, time.mul_f64(CONTROL_SHARE), true)?;
            let id = format!("litmus_control_forbidden_{}", shape.name);
            results.add(&id, count(control.forbidden), "count", None);
            of_controls = of_controls.and(control);
        }
    }
    results.add("litmus_rounds", count(all.rounds), "count", None);
    results.add("litmus_forbidden", count(all.forbidden), "count", None);
    results.add("litmus_control_rounds", count(of_controls.rounds), "count", None);
    results.add("litmus_control_forbidden", count(of_controls.forbidden), "count", None);
    for (price, figure) in prices(context, module)? {
        if let Some(id) = price.id() {
            results.add(id, figure, "ns", None);
        }
    }
    let registers = module.function(RING_KERNEL)?.registers()?;
    results.add("registers_per_thread", Figure::once(f64::from(registers)), "count", None);
    if faults.is_empty() { Ok(()) } else { Err(CudaError(faults.join("; "))) }
}

/// Compiles the shipped text in processes of their own, without the driver's cache; milliseconds.
///
/// # Errors
/// Such a process cannot be started or fails.
pub fn measure_jit(device: u32) -> CudaResult<Figure> {
    let run = |_| {
        let program = std::env::current_exe().map_err(|error| CudaError(error.to_string()))?;
        let mut child = Command::new(program);
        child.arg(format!("--{JIT_OPTION}")).args(["--device", &device.to_string()]);
        // Eager: a lazy driver compiles when the kernel is first asked for, part by part.
        child.env("CUDA_CACHE_DISABLE", "1").env("CUDA_MODULE_LOADING", "EAGER");
        let output = child.output().map_err(|error| CudaError(format!("compiling the kernels: {error}")))?;
        let said = String::from_utf8_lossy(&output.stdout);
        said.trim()
            .parse::<f64>()
            .map_err(|_| CudaError(format!("compiling the kernels: {said}{}", String::from_utf8_lossy(&output.stderr))))
    };
    Ok(Figure::median_of(&(0..JIT_RUNS).map(run).collect::<CudaResult<Vec<f64>>>()?))
}

/// Compiles `text` for the context and finds its ring kernel; milliseconds.
///
/// # Errors
/// The driver refuses the text.
pub fn jit(context: &Context, text: &str) -> CudaResult<f64> {
    let begin = Instant::now();
    let module = Module::load(context, text)?;
    module.function(RING_KERNEL)?;
    Ok(begin.elapsed().as_secs_f64() * 1e3)
}

impl Observed {
    fn of(outcomes: &[LitmusOutcome]) -> Self {
        let (rounds, forbidden) = total(outcomes);
        Self { rounds, forbidden }
    }

    fn and(self, other: Self) -> Self {
        Self { rounds: self.rounds + other.rounds, forbidden: self.forbidden + other.forbidden }
    }
}

fn count(value: u64) -> Figure {
    Figure::once(value as f64)
}

/// What is wrong with a shape.
fn fault(name: &str, observed: Observed) -> Option<String> {
    let Observed { rounds, forbidden } = observed;
    if forbidden > 0 {
        return Some(format!("{name}: {forbidden} of {rounds} outcomes are forbidden"));
    }
    (rounds == 0).then(|| format!("{name}: no round was observed, so nothing is known"))
}

/// One launch of a shape, with the host at its other end where there is one.
fn run(
    context: &Context,
    module: &Module<'_>,
    shape: &Shape,
    time: Duration,
    is_control: bool,
) -> CudaResult<Observed> {
    let (blocks, threads, end) = match shape.place {
        Place::Bus(blocks, end) => (blocks, BUS_THREADS, Some(end)),
        Place::Blocks => ((context.multiprocessors & !1).max(2), LITMUS_THREADS_MAX, None),
        Place::Block(_) => (context.multiprocessors, LITMUS_THREADS_MAX, None),
    };
    let all_threads = blocks * threads;
    let outcomes = DeviceMemory::new(context, all_threads as usize * size_of::<LitmusOutcome>())?;
    let (channels, chunks) = match end {
        Some(End::Arena) => (all_threads / 32, ARENA_CHUNKS),
        _ => (all_threads, PAYLOAD_CHUNKS),
    };
    let head_stride = if end.is_some() { LINE_BYTES } else { SECTOR_BYTES };
    let payload_stride =
        if end.is_some() { (chunks * size_of::<Chunk>() as u32).max(LINE_BYTES) } else { SECTOR_BYTES };
    let heads_bytes = u64::from(channels * head_stride);
    let direction_bytes = heads_bytes + u64::from(channels * payload_stride);
    let bytes = 2 * direction_bytes as usize;
    let pinned = if end.is_some() { Some(Pinned::new(context, bytes)?) } else { None };
    let device = if end.is_none() { Some(DeviceMemory::new(context, bytes)?) } else { None };
    let base = pinned.as_ref().map(Pinned::device).or(device.as_ref().map(DeviceMemory::address)).unwrap_or(0);
    let arguments = LitmusArguments {
        heads_at: base,
        payloads_at: base + heads_bytes,
        replies_at: base + direction_bytes,
        reply_payloads_at: base + direction_bytes + heads_bytes,
        outcomes_at: outcomes.address(),
        time_ns: time.as_nanos() as u64,
        rounds: LITMUS_ROUNDS_MAX,
        looks: LOOKS_MAX,
        head_stride,
        payload_stride,
        is_control: u32::from(is_control),
        ..LitmusArguments::default()
    };
    let mut ends = Vec::new();
    if let Some(pinned) = &pinned {
        for channel in 0..u64::from(channels) {
            let at = |offset: u64, stride: u32| {
                pinned.host().wrapping_add((offset + channel * u64::from(stride)) as usize).cast::<Chunk>()
            };
            // SAFETY: inside the pinned memory, which outlives the channels; lines of their own, so aligned, and each
            // direction is written by one side.
            ends.push(unsafe {
                Channel::new(
                    at(0, head_stride),
                    at(heads_bytes, payload_stride),
                    at(direction_bytes, head_stride),
                    at(direction_bytes + heads_bytes, payload_stride),
                )
            });
        }
    }
    let on_device = DeviceMemory::of(context, &[arguments])?;
    let stream = Stream::new(context)?;
    stream.launch(module.function(shape.kernel)?, blocks, threads, Some(on_device.address()))?;
    let limit = time + OVERTIME;
    let ended = with_host(end, &mut ends, limit, || stream.synchronize_within(limit));
    if let Err(error) = ended {
        // Freeing what a running kernel uses would wait for it without end: nothing can be saved.
        eprintln!("litmus {}: {error}", shape.name);
        std::process::exit(EXIT_CODE_STUCK);
    }
    let mut seen = read::<LitmusOutcome>(context, &stream, &outcomes, all_threads as usize)?;
    let lost = if shape.place == Place::Block(true) { lost_updates(&seen) } else { 0 };
    seen.extend(ends.iter().map(|channel| channel.outcome));
    if let Some(first) = seen.iter().find(|outcome| outcome.forbidden > 0).filter(|_| !is_control) {
        println!("  {}: {first:?}", shape.name);
    }
    let observed = Observed::of(&seen);
    Ok(Observed { forbidden: observed.forbidden + lost, ..observed })
}

/// Does `wait` while threads of the host serve the channels.
fn with_host<R>(end: Option<End>, channels: &mut [Channel], limit: Duration, wait: impl FnOnce() -> R) -> R {
    let Some(end) = end else { return wait() };
    // Half of the processors: the rest of the machine goes on.
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = (processors / 2).clamp(1, HOST_THREADS_MAX);
    let (stop, deadline) = (AtomicBool::new(false), Instant::now() + limit);
    std::thread::scope(|scope| {
        for part in channels.chunks_mut(channels.len().div_ceil(threads).max(1)) {
            scope.spawn(|| serve(end, part, &stop, deadline));
        }
        let result = wait();
        stop.store(true, Ordering::Relaxed);
        result
    })
}

/// Copies `count` values out of device memory that no kernel uses any more.
fn read<T: bytemuck::Pod + Zeroable>(
    context: &Context,
    stream: &Stream<'_>,
    memory: &DeviceMemory<'_>,
    count: usize,
) -> CudaResult<Vec<T>> {
    let pinned = Pinned::new(context, count * size_of::<T>())?;
    stream.copy_out(&pinned, memory.address())?;
    stream.synchronize()?;
    // SAFETY: so many values, page-aligned, which the device has written and does not touch any more.
    Ok((0..count).map(|i| unsafe { pinned.host().cast::<T>().add(i).read_volatile() }).collect())
}

/// Nanoseconds of each operation, the loop around it taken off.
fn prices(context: &Context, module: &Module<'_>) -> CudaResult<Vec<(Price, Figure)>> {
    let device = DeviceMemory::new(context, PRICE_BYTES)?;
    let host = Pinned::new(context, PRICE_BYTES)?;
    let times = DeviceMemory::new(context, Price::ALL.len() * size_of::<u64>())?;
    let arguments = PriceArguments {
        device_at: device.address(),
        host_at: host.device(),
        times_at: times.address(),
        time_ns: PRICE_TIME_MAX.as_nanos() as u64,
        rounds: PRICE_ROUNDS,
        ..PriceArguments::default()
    };
    let arguments = DeviceMemory::of(context, &[arguments])?;
    let stream = Stream::new(context)?;
    let kernel = module.function(c"tourbillon_litmus_prices")?;
    let mut launches = Vec::new();
    for number in 0..=PRICE_LAUNCHES {
        stream.launch(kernel, 1, 32, Some(arguments.address()))?;
        if let Err(error) = stream.synchronize_within(PRICE_TIME_MAX + OVERTIME) {
            eprintln!("litmus prices: {error}");
            std::process::exit(EXIT_CODE_STUCK);
        }
        let took = read::<u64>(context, &stream, &times, Price::ALL.len())?;
        if number > 0 {
            launches.push(prices_of(&took, PRICE_ROUNDS).map_err(CudaError)?);
        }
    }
    let median = |price: Price| {
        Figure::median_of(&launches.iter().filter_map(|launch| launch.get(price as usize).copied()).collect::<Vec<_>>())
    };
    Ok(Price::ALL.into_iter().map(|price| (price, median(price))).collect())
}

/// Nanoseconds of each operation, from the times of so many rounds.
fn prices_of(took_ns: &[u64], rounds: u32) -> Result<Vec<f64>, String> {
    let empty = took_ns.first().copied().unwrap_or(0);
    let one = |(price, took): (&Price, &u64)| match *took {
        0 => Err(format!("{price:?} was not timed, or took too long")),
        took => Ok(took.saturating_sub(empty) as f64 / f64::from(rounds)),
    };
    Price::ALL.iter().zip(took_ns).map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forbidden_outcomes_and_shapes_without_rounds_are_faults() {
        assert_eq!(fault("a", Observed { rounds: 5, forbidden: 0 }), None);
        assert!(fault("a", Observed { rounds: 5, forbidden: 1 }).unwrap().contains("1 of 5"));
        assert!(fault("a", Observed::default()).unwrap().contains("no round"));
        let outcome = |rounds, forbidden| LitmusOutcome { rounds, forbidden, ..LitmusOutcome::default() };
        let observed = Observed::of(&[outcome(3, 0), outcome(4, 2)]).and(Observed { rounds: 1, forbidden: 1 });
        assert_eq!(observed, Observed { rounds: 8, forbidden: 3 });
    }

    #[test]
    fn prices_are_without_their_loop_and_none_is_missing() {
        let mut took = vec![1_000; Price::ALL.len()];
        took[Price::FenceSys as usize] = 71_000;
        let prices = prices_of(&took, 100).unwrap();
        assert_eq!((prices[Price::FenceSys as usize], prices[Price::FenceGpu as usize]), (700.0, 0.0));
        took[Price::LoadChunkSys as usize] = 0;
        assert!(prices_of(&took, 100).unwrap_err().contains("LoadChunkSys"));
    }

    #[test]
    fn the_host_serves_while_somebody_waits() {
        // Channels that answer themselves: what they send is what they find.
        let mut memory = vec![Chunk::default(); 2 * (1 + PAYLOAD_CHUNKS as usize)];
        let mut ends: Vec<Channel> = (0..2)
            .map(|number| {
                let head = memory.as_mut_ptr().wrapping_add(number * (1 + PAYLOAD_CHUNKS as usize));
                // SAFETY: the memory outlives the channels.
                unsafe { Channel::new(head, head.wrapping_add(1), head, head.wrapping_add(1)) }
            })
            .collect();
        with_host(Some(End::Echo), &mut ends, Duration::from_secs(30), || {
            std::thread::sleep(Duration::from_millis(20));
        });
        let observed = Observed::of(&ends.iter().map(|end| end.outcome).collect::<Vec<_>>());
        assert!(observed.rounds > 0 && observed.forbidden == 0, "{observed:?}");
    }
}
