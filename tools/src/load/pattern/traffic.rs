//! One run of traffic between couriers.

use std::fmt::Debug;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use tourbillon::abi::broadcast::broadcasts_max;
use tourbillon::abi::mailbox::{MAILBOX_CAPACITY_MAX, slots_for_letters};
use tourbillon::abi::position::RingShape;
use tourbillon::actors::courier::{Halt, Measure, Report, Roam};
use tourbillon::{BackendKind, Client, Counter, Engine, ErrorOf, MailboxUsage, Message, QuiesceError, ReplyOf};

use super::hops::Hops;
use super::{Pattern, Wanted};
use crate::environment::geometry_text;
use crate::latency::{human_count, human_rate};
use crate::load::error::LoadError;
use crate::load::options::{LoadOptions, STALL};
use crate::load::run::{device_of, progress_bar};

/// Longest time between two looks at the engine's counters.
const TICK: Duration = Duration::from_millis(50);
/// Time between two looks at whether a broadcast has gone through.
const LOOK_EVERY: Duration = Duration::from_millis(1);
/// Shards of an engine whose builder was not told, at least; only room is reckoned with it.
const SHARDS_LEAST: u64 = 16;
/// Actors are given room for this many times their even share of a shard, ...
const UNEVENNESS: u64 = 2;
/// ... and for so many beside it: small numbers are the most uneven.
const ACTORS_SPARE: u64 = 256;
/// Of queues that are served at the same pace some grow to many times the mean: a mailbox has room for so many times that.
const QUEUE_FACTOR: u64 = 64;
/// Slots of the smallest mailbox that is chosen: the engine's default.
const MAILBOX_LEAST: u32 = 2048;

/// Slots that a mailbox must have so that none of `in_flight` messages is lost for want of room: all of them may come to be in one where
/// the pattern has a busiest courier; else that many times the mean.
///
/// # Errors
/// [`LoadError::TooManyInFlight`].
pub(super) fn mailbox_capacity(options: &LoadOptions, pattern: Pattern, in_flight: u64) -> Result<u32, LoadError> {
    let shards = options.shards.map_or(SHARDS_LEAST, u64::from).clamp(1, options.keys);
    let queue = match pattern {
        Pattern::Tree => in_flight,
        _ => in_flight.min(in_flight.div_ceil(shards) * QUEUE_FACTOR),
    };
    let room = |capacity: u32| {
        let shape = RingShape::from_log2(capacity.trailing_zeros());
        let letters = slots_for_letters(shape);
        // What the shard has taken is free when it tells of it, a quarter at a time.
        u64::from(letters - letters / 4 - broadcasts_max(shape))
    };
    let mut capacity = MAILBOX_LEAST;
    while room(capacity) < queue {
        if capacity >= MAILBOX_CAPACITY_MAX {
            let most = if pattern == Pattern::Tree {
                room(capacity)
            } else {
                (room(capacity) / QUEUE_FACTOR * shards).max(room(capacity))
            };
            return Err(LoadError::TooManyInFlight { in_flight, most });
        }
        capacity *= 2;
    }
    Ok(capacity)
}

/// What the couriers' states say, summed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct States {
    /// Messages that came.
    pub received: u64,
    /// Messages that ended.
    pub ended: u64,
    /// Sum of their numbers.
    pub ended_digest: u64,
    /// How long hops took, since the measured time began.
    pub hops: Hops,
    /// Whether a courier's count was full.
    pub is_full: bool,
}

/// The time that was measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Window {
    /// Letters that the device counted in it.
    pub hops: u64,
    /// How long it was.
    pub time: Duration,
}

/// What one run found.
#[derive(Clone, Debug)]
pub struct Traffic {
    /// Which machine ran.
    pub backend: BackendKind,
    /// Name of the device.
    pub device: String,
    /// Why it is not the one preferred.
    pub fallback: Option<String>,
    /// The engine's geometry in a line.
    pub geometry: String,
    /// Messages that were started.
    pub started: u64,
    /// What the states say.
    pub states: States,
    /// What was measured; nothing when it was interrupted before.
    pub window: Option<Window>,
    /// The mailboxes, by shard, when all was over.
    pub mailboxes: Vec<MailboxUsage>,
    /// Messages that failed.
    pub failed: u64,
    /// What was wrong, the first of it.
    pub first_failure: Option<String>,
    /// Whether the user ended it.
    pub is_interrupted: bool,
}

impl Traffic {
    /// Drives traffic for a time, of which the first part is not measured.
    ///
    /// # Errors
    /// When there is no run to speak of.
    pub fn drive(
        options: &LoadOptions,
        wanted: Wanted,
        (time, warmup): (Duration, Duration),
        interrupted: &AtomicBool,
    ) -> Result<Self, LoadError> {
        let engine = build(options, wanted)?;
        let mut client = engine.client()?;
        client.set_timeout(Some(STALL));
        let mut first_failure = None;
        // All of them are to be there: whoever came later would not hear that it is to halt.
        all(&mut client, (0..wanted.keys).map(|key| (u64::from(key), Measure {})), |()| ())?;
        let (route, couriers) = wanted.pattern.route(wanted.keys);
        let (keys, count) = (u64::from(wanted.keys), u64::from(wanted.in_flight));
        let mut started = 0u64;
        let roams = (0..wanted.in_flight).map(|number| {
            let seed = options.seed.wrapping_add(u64::from(number)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            (u64::from(number) * keys / count, Roam::endless(number, route, couriers, seed))
        });
        all(&mut client, roams, |()| started += 1)?;

        let is_over = || interrupted.load(Ordering::Relaxed);
        let bar = progress_bar(options, time);
        let began = Instant::now();
        watch(&engine, &bar, (began, warmup), &is_over)?;
        let mut window = None;
        if !is_over() {
            tell_all(&engine, &mut client, &Measure {})?;
            let (from, before) = (Instant::now(), letters(&engine)?);
            watch(&engine, &bar, (began, time), &is_over)?;
            let after = letters(&engine)?;
            window = Some(Window { hops: after.saturating_sub(before), time: from.elapsed() });
        }
        bar.finish_and_clear();
        tell_all(&engine, &mut client, &Halt {})?;
        match engine.quiesce(STALL) {
            Ok(_) => {}
            Err(QuiesceError::Engine(error)) => return Err(error.into()),
            Err(error) => first_failure = Some(error.to_string()),
        }

        let mut states = States::default();
        all(&mut client, (0..wanted.keys).map(|key| (u64::from(key), Report {})), |courier| {
            states.received += courier.received;
            states.ended += u64::from(courier.ended);
            states.ended_digest = states.ended_digest.wrapping_add(courier.ended_digest);
            states.hops.add(&courier.hops);
            states.is_full |= courier.is_full != 0;
        })?;
        engine.quiesce(STALL).ok();
        engine.pause()?;
        let (counters, mailboxes) = (engine.device_counters()?, engine.mailboxes()?);
        let failed = counters[Counter::Failed as usize];
        if failed != 0 && first_failure.is_none() {
            let letter = engine.dead_letters()?.first().map(|letter| letter.reason());
            first_failure = letter.map(|reason| format!("a message between couriers failed: {reason}"));
        }
        Ok(Self {
            backend: engine.backend(),
            device: engine.device_name().to_owned(),
            fallback: engine.fallback().map(ToString::to_string),
            geometry: geometry_text(&engine.geometry()),
            started,
            states,
            window,
            mailboxes,
            failed,
            first_failure,
            is_interrupted: is_over(),
        })
    }
}

fn build(options: &LoadOptions, wanted: Wanted) -> Result<Engine, LoadError> {
    let shards = options.shards.map_or(SHARDS_LEAST, u64::from).max(1);
    let actors = options.keys.div_ceil(shards) * UNEVENNESS + ACTORS_SPARE;
    let mut builder = Engine::builder_for(tourbillon_patterns::image()).backend(options.backend);
    builder = builder.actors_per_shard(u32::try_from(actors).unwrap_or(u32::MAX));
    builder =
        builder.mailbox_capacity(wanted.mailbox_capacity).overflow_capacity(wanted.mailbox_capacity).arena_bytes(0);
    if let Some(shards) = options.shards {
        builder = builder.shards(shards);
    }
    if let Some(device) = &options.device {
        builder = builder.device(device_of(device));
    }
    Ok(builder.build()?)
}

/// Sends messages in a pipeline; `take` gets the replies, in order.
fn all<M: Message>(
    client: &mut Client,
    messages: impl Iterator<Item = (u64, M)>,
    mut take: impl FnMut(ReplyOf<M>),
) -> Result<(), LoadError>
where
    ErrorOf<M>: Debug,
{
    let failed = |error: &dyn std::fmt::Display| LoadError::Courier(error.to_string());
    let mut messages = messages.peekable();
    let mut pipeline = client.pipeline::<M>();
    loop {
        while let Some((key, message)) = messages.peek() {
            if !pipeline.push(*key, message).map_err(|error| failed(&error))? {
                break;
            }
            messages.next();
        }
        match pipeline.pop() {
            Some(reply) => take(reply.map_err(|error| failed(&error))?),
            None if messages.peek().is_none() => return Ok(()),
            // Replies that nobody waits for are in the way.
            None => std::thread::yield_now(),
        }
    }
}

/// Tells all couriers something, and waits until it has gone to all shards.
fn tell_all<M: Message>(engine: &Engine, client: &mut Client, message: &M) -> Result<(), LoadError> {
    let count = || Ok::<_, LoadError>(engine.device_counters()?[Counter::Broadcasts as usize]);
    let (before, began) = (count()?, Instant::now());
    client.broadcast(message).map_err(|error| LoadError::Courier(error.to_string()))?;
    while count()? == before {
        if began.elapsed() > STALL {
            return Err(LoadError::Courier(format!("a broadcast was not at its end within {STALL:?}")));
        }
        std::thread::sleep(LOOK_EVERY);
    }
    Ok(())
}

fn letters(engine: &Engine) -> Result<u64, LoadError> {
    Ok(engine.device_counters()?[Counter::Letters as usize])
}

/// Waits until so long after `began`, or until it is over.
fn watch(
    engine: &Engine,
    bar: &ProgressBar,
    (began, until): (Instant, Duration),
    is_over: &dyn Fn() -> bool,
) -> Result<(), LoadError> {
    let (mut before, mut at) = (letters(engine)?, Instant::now());
    while began.elapsed() < until && !is_over() {
        std::thread::sleep(TICK.min(until.saturating_sub(began.elapsed())));
        let (now, time) = (letters(engine)?, at.elapsed());
        let rate = now.saturating_sub(before) as f64 / time.as_secs_f64().max(f64::MIN_POSITIVE);
        bar.set_position(began.elapsed().as_millis() as u64);
        bar.set_message(format!("{} hops, {}", human_count(now), human_rate(rate)));
        (before, at) = (now, Instant::now());
    }
    Ok(())
}
