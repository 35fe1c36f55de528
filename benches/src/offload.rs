//! What a user does without a persistent kernel: launch for each message.

use std::time::Instant;

use tourbillon_shared::floor::{OFFLOAD_WORDS, OffloadArguments};
use tourbillon_tools::latency::new_histogram;

use crate::cuda::{Context, CudaError, CudaResult, DeviceMemory, Module, Pinned, Stream};
use tourbillon_benches::results::Figure;

/// Repetitions of a run before those that are measured.
const WARMUP: u32 = 200;
/// Repetitions of a run.
const REPETITIONS: u32 = 2_000;
/// Runs.
const RUNS: u32 = 10;
/// What the kernel adds to each word.
const ADDEND: u32 = 0x1234_5678;
/// Threads of the kernel: a warp, of which as many work as there are words.
const THREADS: u32 = 32;

/// The medians, in nanoseconds.
#[derive(Clone, Debug)]
pub struct Offload {
    /// Launch of an empty kernel and the wait for its end.
    pub launch_sync: Figure,
    /// Copy in, launch, copy out, wait.
    pub copy_launch: Figure,
    /// The same, recorded as a graph.
    pub graph: Figure,
}

/// Measures all three; every result is compared.
pub fn measure(context: &Context, module: &Module<'_>) -> CudaResult<Offload> {
    let stream = Stream::new(context)?;
    let empty = module.function(c"tourbillon_empty")?;
    let work = module.function(c"tourbillon_offload")?;
    let bytes = OFFLOAD_WORDS * size_of::<u32>();
    let (input, output) = (DeviceMemory::new(context, bytes)?, DeviceMemory::new(context, bytes)?);
    let (sent, received) = (Pinned::new(context, bytes)?, Pinned::new(context, bytes)?);
    let arguments = OffloadArguments {
        input_at: input.address(),
        output_at: output.address(),
        addend: ADDEND,
        ..OffloadArguments::default()
    };
    let arguments = DeviceMemory::of(context, &[arguments])?;

    let launch_sync = median(|_| {
        stream.launch(empty, 1, THREADS, None)?;
        stream.synchronize()
    })?;
    let request = |stream: &Stream<'_>| {
        stream.copy_in(input.address(), &sent)?;
        stream.launch(work, 1, THREADS, Some(arguments.address()))?;
        stream.copy_out(&received, output.address())
    };
    let copy_launch = median(|number| {
        fill(&sent, number);
        request(&stream)?;
        stream.synchronize()?;
        compare(&received, number)
    })?;
    let recorded = stream.capture(request)?;
    let graph = median(|number| {
        fill(&sent, number);
        recorded.launch(&stream)?;
        stream.synchronize()?;
        compare(&received, number)
    })?;
    Ok(Offload { launch_sync, copy_launch, graph })
}

/// The median over the runs of the median time of `once`, which gets a number that never repeats.
fn median(mut once: impl FnMut(u32) -> CudaResult<()>) -> CudaResult<Figure> {
    let mut medians = Vec::new();
    let mut number = 0;
    for _ in 0..RUNS {
        let mut times = new_histogram();
        for repetition in 0..WARMUP + REPETITIONS {
            number += 1;
            let begin = Instant::now();
            once(number)?;
            let time = begin.elapsed();
            if repetition >= WARMUP {
                times.saturating_record(time.as_nanos() as u64);
            }
        }
        medians.push(times.value_at_quantile(0.5) as f64);
    }
    Ok(Figure::median_of(&medians))
}

fn fill(memory: &Pinned<'_>, number: u32) {
    for word in 0..OFFLOAD_WORDS as u32 {
        // SAFETY: inside the memory, which the device does not use now: the last request was waited for.
        unsafe { memory.host().cast::<u32>().add(word as usize).write(number.wrapping_mul(31).wrapping_add(word)) };
    }
}

fn compare(memory: &Pinned<'_>, number: u32) -> CudaResult<()> {
    for word in 0..OFFLOAD_WORDS as u32 {
        // SAFETY: as for `fill`; volatile, because the device wrote it.
        let found = unsafe { memory.host().cast::<u32>().add(word as usize).read_volatile() };
        let expected = number.wrapping_mul(31).wrapping_add(word).wrapping_add(ADDEND);
        if found != expected {
            return Err(CudaError(format!("word {word} of request {number} is {found:#x}, not {expected:#x}")));
        }
    }
    Ok(())
}
