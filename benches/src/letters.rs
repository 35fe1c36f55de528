//! Messages between actors: how long a hop takes, by the device's stamps, and how many there are in a second. Every message is found
//! again in the state of the actor that it went to.

use std::fmt::Debug;
use std::time::{Duration, Instant};

use tourbillon::actors::Rover;
use tourbillon::actors::relay::{Pass, Passed, Relay, STEPS};
use tourbillon::actors::rover::{Rove, Seen};
use tourbillon::{Client, Counter, Engine, ErrorOf, GpuGeometry, Message, ReplyOf};
use tourbillon_shared::floor::{HOP_CHUNKS_APART, HopArguments};
use tourbillon_shared::partition::{even_table, hash, partition_of};
use tourbillon_shared::slot::Chunk;

use crate::cuda::{Context, CudaResult, DeviceMemory, Module, Pinned, Stream};
use crate::engine::{EngineResult, REPLY_TIME_MAX, Setup};
use tourbillon::{Actor, DeviceSelector};
use tourbillon_benches::results::{Figure, Results};

/// Hops of one run, one message under way.
const HOPS: u32 = 200_000;
/// Runs: a million hops.
const RUNS: usize = 5;
/// Runs that may be needed to find where the steps of the histogram are needed.
const SCALES_MAX: usize = 24;
/// Binary logarithm of the finest steps, nanoseconds: those of a GPU's clock.
const FINEST_LOG2: u32 = 5;
/// Rounds of the bare hop.
const FLOOR_ROUNDS: u32 = 200_000;
/// Launches of the bare hop, after one that warms up.
const FLOOR_LAUNCHES: u32 = 5;
/// Longest time for one of them.
const FLOOR_TIME_MAX: Duration = Duration::from_secs(5);
/// Actors of the throughput.
const ROVERS: u32 = 1 << 20;
/// Messages under way, when they are spread evenly, and when not: then nearly all of them wait at the busiest actor, whose shard has room for
/// so many.
const UNDER_WAY: (u64, u64) = (1 << 17, 1 << 12);
/// Slots of a mailbox then: half of them are for letters. Of queues that are served at the same pace some grow to many times the mean, so
/// there is room for 64 times the mean of 128.
const SLOTS: u32 = 1 << 14;
/// Messages of one run, on a GPU and on CPU threads.
const MESSAGES: (u64, u64) = (1 << 31, 1 << 22);
/// How long a run may take.
const RUN_TIME_MAX: Duration = Duration::from_secs(60);
/// Time over which the rate is measured, while all messages are under way.
const RATE_TIME: Duration = Duration::from_millis(400);

/// Nanoseconds of a bare hop between blocks.
pub fn measure_floor(context: &Context, module: &Module<'_>) -> CudaResult<Figure> {
    let mut hops = Vec::new();
    for number in 0..=FLOOR_LAUNCHES {
        let chunks = DeviceMemory::new(context, 2 * HOP_CHUNKS_APART * size_of::<Chunk>())?;
        let took = DeviceMemory::new(context, size_of::<u64>())?;
        let arguments = HopArguments {
            chunks_at: chunks.address(),
            took_at: took.address(),
            time_ns: FLOOR_TIME_MAX.as_nanos() as u64 / 2,
            rounds: FLOOR_ROUNDS,
            reserved: 0,
        };
        let arguments = DeviceMemory::of(context, &[arguments])?;
        let stream = Stream::new(context)?;
        stream.launch(module.function(c"tourbillon_floor_hop")?, 2, u32::BITS, Some(arguments.address()))?;
        stream.synchronize_within(FLOOR_TIME_MAX)?;
        let pinned = Pinned::new(context, size_of::<u64>())?;
        stream.copy_out(&pinned, took.address())?;
        stream.synchronize()?;
        // SAFETY: one word, page-aligned, which the device has written and does not touch any more.
        let took_ns = unsafe { pinned.host().cast::<u64>().read_volatile() };
        if number > 0 {
            hops.push(took_ns as f64 / (2.0 * f64::from(FLOOR_ROUNDS)));
        }
    }
    Ok(Figure::median_of(&hops))
}

/// All of it.
pub fn measure(setup: Setup, results: &mut Results) -> EngineResult<()> {
    let builder = |image| Engine::builder_for(image).backend(setup.backend).device(DeviceSelector::Index(setup.device));
    let engine = builder(tourbillon_relays::image()).build()?;
    println!("engine: {}", tourbillon_tools::environment::geometry_text(&engine.geometry()));
    let mut failed = None;
    let floor = results.get("floor_hop_ns").map(|entry| entry.value);
    for (name, is_same) in [("hop_same_shard_p50", true), ("hop_cross_shard_p50", false)] {
        // What fails does not keep the others from being measured.
        match hops(&engine, is_same) {
            Ok(hop) => results.add(name, hop, "ns", floor),
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    drop(engine);
    // As many shards as there are warps, so that every warp has work.
    let wide = GpuGeometry { gates: 1, warps_per_block: 8, blocks: None };
    let builder = || builder(tourbillon_bank::image());
    let engine = builder().geometry(wide).shards(1024).actors_per_shard(2 * ROVERS / 1024).mailbox_capacity(SLOTS);
    let is_gpu = setup.backend == tourbillon::Backend::Cuda;
    let engine = if is_gpu { engine } else { builder().actors_per_shard(2 * ROVERS / 16).mailbox_capacity(1 << 16) };
    let engine = engine.build()?;
    println!("engine: {}", tourbillon_tools::environment::geometry_text(&engine.geometry()));
    for (name, skewed) in [("device_messages_per_s_uniform", 0), ("device_messages_per_s_zipf", Rove::SKEWED)] {
        let messages = if is_gpu { MESSAGES.0 } else { MESSAGES.1 };
        // Skewed traffic goes at the pace of the busiest actor.
        let messages = if skewed == 0 { messages } else { messages / 64 };
        match rate(&engine, skewed, messages) {
            Ok(rate) => results.add(name, rate, "1/s", None),
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    failed.map_or(Ok(()), Err)
}

fn client(engine: &Engine) -> EngineResult<Client> {
    let mut client = engine.client()?;
    client.set_timeout(Some(REPLY_TIME_MAX));
    Ok(client)
}

/// Two actors in the same shard or in different ones: the key of one of them, and in which bits that of the other differs.
fn pair(engine: &Engine, kind: u16, is_same: bool) -> EngineResult<(u64, u32)> {
    let table = even_table(engine.geometry().shards);
    let shard = |key| table[partition_of(hash(kind, key))];
    let found = (1u32..1 << 20).find(|bits| (shard(0) == shard(u64::from(*bits))) == is_same);
    found.map(|bits| (0, bits)).ok_or_else(|| "no such pair of actors".into())
}

/// Where the steps are by which times are counted.
#[derive(Clone, Copy, Debug)]
struct Scale {
    from_ns: u32,
    step_log2: u32,
}

impl Scale {
    /// What the first run is counted by.
    const COARSE: Self = Self { from_ns: 0, step_log2: 8 };

    /// Around a time, in steps of 2^`step_log2` ns.
    fn around(time_ns: f64, step_log2: u32) -> Self {
        let half = (STEPS as u64 / 2) << step_log2;
        Self { from_ns: (time_ns as u64).saturating_sub(half) as u32, step_log2 }
    }

    /// Whether the steps are as fine as the times deserve, or the clock.
    fn is_fine(self, time_ns: f64) -> bool {
        self.step_log2 <= FINEST_LOG2 || f64::from(1u32 << self.step_log2) <= time_ns / 16.0
    }
}

/// The median of the hops of one message between two relays, by their own histograms. Those have few steps, so that the actors are small:
/// runs before the measured ones find where they are needed.
fn hops(engine: &Engine, is_same: bool) -> EngineResult<Figure> {
    let mut client = client(engine)?;
    let (key, other) = pair(engine, Relay::KIND, is_same)?;
    let read = |client: &mut Client| -> EngineResult<[u32; STEPS]> {
        let mut sums = [0u32; STEPS];
        for key in [key, key ^ u64::from(other)] {
            let relay: Relay = client.call(key, Passed {})?;
            sums.iter_mut().zip(relay.steps).for_each(|(sum, count)| *sum = sum.wrapping_add(count));
        }
        Ok(sums)
    };
    let mut before = read(&mut client)?;
    let mut run = |client: &mut Client, scale: Scale| -> EngineResult<Option<f64>> {
        let pass = Pass { left: HOPS, other, from_ns: scale.from_ns, step_log2: scale.step_log2 };
        client.call(key, pass)?;
        engine.quiesce(RUN_TIME_MAX)?;
        let now = read(client)?;
        let steps: Vec<u64> = now.iter().zip(before).map(|(now, before)| now.wrapping_sub(before).into()).collect();
        if steps.iter().sum::<u64>() != u64::from(HOPS) + 1 {
            return Err(format!("{} of {HOPS} hops", steps.iter().sum::<u64>()).into());
        }
        before = now;
        println!("  hops in steps of {} ns from {} ns on: {steps:?}", 1u32 << scale.step_log2, scale.from_ns);
        Ok(median(&steps, |step| pass.step_from(step) as f64))
    };
    let (mut scale, mut medians) = (Scale::COARSE, Vec::new());
    for _ in 0..SCALES_MAX + RUNS {
        match run(&mut client, scale)? {
            // Past its end, or in front of it: what was measured with it is of another pace.
            None => {
                scale = Scale { from_ns: 0, step_log2: scale.step_log2 + 1 };
                medians.clear();
            }
            Some(time_ns) if !scale.is_fine(time_ns) => scale = Scale::around(time_ns, scale.step_log2 - 1),
            Some(time_ns) => medians.push(time_ns),
        }
        if medians.len() == RUNS {
            return Ok(Figure::median_of(&medians));
        }
    }
    Err("the median of the hops never stayed where its steps were fine enough".into())
}

/// The median of a histogram of steps that begin at `from`, by straight lines inside of them; nothing when it is in the first, of which it is
/// not known where it begins, or in the last, which does not end.
fn median(steps: &[u64], from: impl Fn(usize) -> f64) -> Option<f64> {
    let half = steps.iter().sum::<u64>() as f64 / 2.0;
    let mut below = 0.0;
    for (number, count) in steps.iter().enumerate() {
        let count = *count as f64;
        if below + count >= half {
            let (begin, end) = (from(number), from(number + 1));
            let is_inside = number + 1 < steps.len() && (number > 0 || begin == 0.0);
            return is_inside.then(|| begin + (end - begin) * (half - below) / count);
        }
        below += count;
    }
    None
}

/// Messages to each of `keys`, in a pipeline; their replies.
fn all<M: Message>(client: &mut Client, messages: impl Iterator<Item = (u64, M)>) -> EngineResult<Vec<ReplyOf<M>>>
where
    ErrorOf<M>: Debug,
{
    let mut replies = Vec::new();
    let mut messages = messages.peekable();
    let mut pipeline = client.pipeline::<M>();
    loop {
        while let Some((key, message)) = messages.peek() {
            if !pipeline.push(*key, message)? {
                break;
            }
            messages.next();
        }
        match pipeline.pop() {
            Some(reply) => replies.push(reply.map_err(|error| format!("a message failed: {error:?}"))?),
            None if messages.peek().is_none() => return Ok(replies),
            None => {}
        }
    }
}

/// Messages a second between all rovers, while as many as ever are under way; and whether each of them is in a state.
fn rate(engine: &Engine, skewed: u32, messages: u64) -> EngineResult<Figure> {
    let mut client = client(engine)?;
    let sum = |rovers: &[Rover]| rovers.iter().map(|rover| rover.received).sum::<u64>();
    let seen = |client: &mut Client| all(client, (0..u64::from(ROVERS)).map(|key| (key, Seen {})));
    let before = sum(&seen(&mut client)?);
    let under_way = if skewed == 0 { UNDER_WAY.0 } else { UNDER_WAY.1 };
    let hops = (messages / under_way) as u32;
    let first = |i: u64| Rove { left: hops, rovers: ROVERS | skewed, seed: i.wrapping_mul(0x9e37_79b9_7f4a_7c15) };
    all(&mut client, (0..under_way).map(|i| (i * u64::from(ROVERS) / under_way, first(i))))?;
    // All are under way from here on, and none ends before it has made all its hops.
    let letters = || -> EngineResult<(Instant, u64)> {
        let counters = engine.device_counters()?;
        Ok((Instant::now(), counters[Counter::Letters as usize]))
    };
    let mut rates = Vec::new();
    let (mut began, mut count) = letters()?;
    for _ in 0..3 {
        std::thread::sleep(RATE_TIME / 3);
        let (now, counted) = letters()?;
        rates.push((counted - count) as f64 / (now - began).as_secs_f64());
        println!("  {:.1} M/s", rates.last().unwrap_or(&0.0) / 1e6);
        (began, count) = (now, counted);
    }
    engine.quiesce(RUN_TIME_MAX)?;
    let received = sum(&seen(&mut client)?) - before;
    if received != under_way * (u64::from(hops) + 1) {
        return Err(format!("{received} of {} messages are in the states", under_way * (u64::from(hops) + 1)).into());
    }
    let mailboxes = engine.mailboxes()?;
    if let Some(shard) = mailboxes.iter().position(|mailbox| mailbox.slots_put != mailbox.slots_taken) {
        return Err(format!("shard {shard} has not taken all of its letters: {:?}", mailboxes[shard]).into());
    }
    let overflowed: u64 = mailboxes.iter().map(|mailbox| mailbox.overflowed).sum();
    println!("  {received} messages, each in a state, {under_way} under way; {overflowed} waited in an overflow");
    Ok(Figure::median_of(&rates))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_lies_inside_of_steps_that_begin_and_end() {
        let from = |step: usize| 500.0 + 32.0 * step as f64;
        // Half of eight is reached half way through the second step.
        assert_eq!(median(&[2, 4, 1, 1], from), Some(548.0));
        // Of the first it is not known where it begins, but at zero, nor of the last where it ends.
        assert_eq!(median(&[6, 1, 1, 0], from), None);
        assert_eq!(median(&[8, 0, 0, 0], |step| 32.0 * step as f64), Some(16.0));
        assert_eq!(median(&[1, 1, 1, 5], from), None);
        assert_eq!(median(&[0, 0], from), None);
    }

    #[test]
    fn steps_become_as_fine_as_times_deserve() {
        let mut scale = Scale::COARSE;
        let time_ns = 900.0;
        while !scale.is_fine(time_ns) {
            scale = Scale::around(time_ns, scale.step_log2 - 1);
            let end = scale.from_ns + ((STEPS as u32) << scale.step_log2);
            assert!(f64::from(scale.from_ns) < time_ns && time_ns < f64::from(end), "{scale:?}");
        }
        assert_eq!(scale.step_log2, FINEST_LOG2);
        // The clock has no finer ones.
        assert!(scale.is_fine(1.0) && !Scale::COARSE.is_fine(1.0) && Scale::COARSE.is_fine(4096.0));
    }
}
