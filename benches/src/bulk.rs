//! Payloads of 1 MiB: there and back through an actor, beside a bare copy of the same bytes over the bus.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tourbillon::actors::blob::Mirror;
use tourbillon::{BackendKind, Engine};
use tourbillon_shared::arena::{LARGE_BYTES_MAX, block_bytes};
use tourbillon_tools::environment::cores;
use tourbillon_tools::random::{Random, mix};

use crate::cuda::{Context, CudaError, CudaResult, DeviceMemory, Pinned, Stream};
use crate::engine::{EngineResult, Setup};
use tourbillon_benches::results::{Figure, Results};

/// Bytes of a payload.
const BYTES: usize = LARGE_BYTES_MAX;
/// Payloads that a client has in flight: one on its way there, one with its actor, one on its way back, and one beside.
const IN_FLIGHT: usize = 4;
/// Actors of a client, so that its payloads are with several shards.
const KEYS: u64 = 16;
/// Length of a run.
const TIME: Duration = Duration::from_secs(1);
/// Runs.
const RUNS: u32 = 5;
/// Length of a run while numbers of clients are compared, and before each run that counts.
const TRIAL_TIME: Duration = Duration::from_millis(300);
/// Most clients: more do not share the bus better.
const CLIENTS_MAX: usize = 8;
/// Longest wait for a reply: an engine that takes longer is broken.
const REPLY_TIME_MAX: Duration = Duration::from_secs(5);
/// Copies of a direction between two waits.
const COPIES: u32 = 16;

/// Bytes a second of a copy to the device and one back, both at a time; each byte counts once for there and back.
pub fn measure_floor(context: &Context) -> CudaResult<Figure> {
    let (there, back) = (Stream::new(context)?, Stream::new(context)?);
    let (sent, received) = (Pinned::new(context, BYTES)?, Pinned::new(context, BYTES)?);
    let (to, from) = (DeviceMemory::new(context, BYTES)?, DeviceMemory::new(context, BYTES)?);
    // SAFETY: both are `BYTES` long, and no copy uses them yet.
    unsafe { sent.host().write_bytes(0x5a, BYTES) };
    let round = || -> CudaResult<()> {
        for _ in 0..COPIES {
            there.copy_in(to.address(), &sent)?;
            back.copy_out(&received, from.address())?;
        }
        there.synchronize()?;
        back.synchronize()
    };
    // What was copied in comes out again: a floor that copies nothing would be no floor.
    there.copy_in(from.address(), &sent)?;
    there.synchronize()?;
    round()?;
    // SAFETY: as above; the copies were waited for.
    let last = unsafe { received.host().add(BYTES - 1).read_volatile() };
    if last != 0x5a {
        return Err(CudaError(format!("a copied byte is {last:#x}, not 0x5a")));
    }
    let mut rates = Vec::new();
    for _ in 0..RUNS {
        let (begin, mut copies) = (Instant::now(), 0u64);
        while begin.elapsed() < TIME {
            round()?;
            copies += u64::from(COPIES);
        }
        rates.push(copies as f64 * BYTES as f64 / begin.elapsed().as_secs_f64());
    }
    Ok(Figure::median_of(&rates))
}

/// One client's payloads until `stop`; counts those that came back as they went.
fn stream(engine: &Engine, number: u64, stop: &AtomicBool, counted: &AtomicU64) -> EngineResult<()> {
    let mut client = engine.client()?;
    client.set_timeout(Some(REPLY_TIME_MAX));
    let mut random = Random::new(11, number);
    let mut payloads: VecDeque<Vec<u8>> =
        (0..IN_FLIGHT).map(|_| (0..BYTES / 8).flat_map(|_| random.next_u64().to_le_bytes()).collect()).collect();
    let mut in_flight: VecDeque<(u64, Vec<u8>)> = VecDeque::with_capacity(IN_FLIGHT);
    let mut pipeline = client.large_pipeline::<Mirror>();
    let mut next = 1u64;
    loop {
        while !stop.load(Ordering::Relaxed)
            && let Some(mut payload) = payloads.pop_front()
        {
            // Every page of every payload is one that was never sent before.
            for (page, bytes) in payload.chunks_mut(4096).enumerate() {
                if let Some(stamp) = bytes.first_chunk_mut() {
                    *stamp = ((next << 16) | page as u64).to_le_bytes();
                }
            }
            if !pipeline.push(mix((number << 32) | (next % KEYS)), &Mirror { word: next }, &payload, BYTES)? {
                payloads.push_front(payload);
                break;
            }
            in_flight.push_back((next, payload));
            next += 1;
        }
        let Some((sent, payload)) = in_flight.pop_front() else {
            let is_over = stop.load(Ordering::Relaxed);
            return if is_over { Ok(()) } else { Err("no room for a single payload".into()) };
        };
        let reply = pipeline.pop_with(|bytes| *bytes == *payload).ok_or("a reply without a request")?;
        let (seen, is_same) = reply?;
        if !is_same || seen.word != sent {
            return Err(format!("payload {sent} of client {number} came back otherwise").into());
        }
        counted.fetch_add(1, Ordering::Relaxed);
        payloads.push_back(payload);
    }
}

/// Payload bytes a second that went to an actor and came back, compared.
fn rate(engine: &Engine, clients: u64, time: Duration) -> EngineResult<f64> {
    let (stop, counted) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let (stop, counted) = (&stop, &counted);
        let threads: Vec<_> =
            (0..clients).map(|number| scope.spawn(move || stream(engine, number, stop, counted))).collect();
        std::thread::sleep(TRIAL_TIME);
        let (begin, before) = (Instant::now(), counted.load(Ordering::Relaxed));
        std::thread::sleep(time);
        let (payloads, elapsed) = (counted.load(Ordering::Relaxed) - before, begin.elapsed());
        stop.store(true, Ordering::Relaxed);
        for thread in threads {
            thread.join().map_err(|_| "a client's thread panicked")??;
        }
        Ok(payloads as f64 * BYTES as f64 / elapsed.as_secs_f64())
    })
}

/// Payloads through the engine; the floor is that of [`measure_floor`], if there is one.
pub fn measure(setup: Setup, results: &mut Results) -> EngineResult<()> {
    let arena_bytes = block_bytes(BYTES as u32, BYTES as u32) * IN_FLIGHT as u32;
    let engine = setup.builder().arena_bytes(arena_bytes).build()?;
    let kernel_threads =
        if engine.backend() == BackendKind::Cuda { 0 } else { engine.geometry().warps_per_block as usize };
    let free = cores().saturating_sub(kernel_threads).clamp(1, CLIENTS_MAX);
    let mut best = (0.0, 1);
    for clients in [1, 2, 4, CLIENTS_MAX as u64].into_iter().filter(|clients| *clients <= free as u64) {
        let per_second = rate(&engine, clients, TRIAL_TIME)?;
        println!("  {clients} client(s): {:.0} MiB/s there and back", per_second / f64::from(1 << 20));
        if per_second > best.0 {
            best = (per_second, clients);
        }
    }
    results.env.insert("throughput_1mib_clients".into(), best.1.into());
    let rates = (0..RUNS).map(|_| rate(&engine, best.1, TIME)).collect::<EngineResult<Vec<_>>>()?;
    let floor = results.get("floor_copy_bytes_per_s").map(|entry| entry.value);
    results.add("throughput_1mib_bytes_per_s", Figure::median_of(&rates), "B/s", floor);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tourbillon::Backend;

    #[test]
    fn payloads_are_compared_and_counted() {
        let setup = Setup { backend: Backend::Cpu, device: 0 };
        let engine = setup.builder().cpu_threads(1).arena_bytes(4 << 20).build().unwrap();
        assert!(rate(&engine, 1, Duration::from_millis(300)).unwrap() > 0.0);
    }

    #[test]
    fn an_engine_without_room_is_an_error_and_no_figure() {
        let setup = Setup { backend: Backend::Cpu, device: 0 };
        let engine = setup.builder().cpu_threads(1).arena_bytes(4096).build().unwrap();
        let (stop, counted) = (AtomicBool::new(false), AtomicU64::new(0));
        let error = stream(&engine, 0, &stop, &counted).unwrap_err().to_string();
        assert!(error.contains("arena_bytes"), "{error}");
    }
}
