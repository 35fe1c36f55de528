//! The ring kernel without a host crate: one lane, hand-made memory, all machines of a host.

use std::sync::Arc;

use tourbillon_actors::counter::{Add, Added};
use tourbillon_actors::echo::Ping352;
use tourbillon_actors::faulty::{Fault, Trigger};
use tourbillon_device::arch::native::{Doorbell, Grid, load_chunk, store_chunk};
#[cfg(feature = "simt")]
use tourbillon_device::arch::simt;
use tourbillon_device::{Actor, Message, Plain, SystemImage};
use tourbillon_shared::control::{Command, ControlBlock, Mode};
use tourbillon_shared::error::FailureCode;
use tourbillon_shared::frame::{self, FRAME_WORDS_MAX};
use tourbillon_shared::geometry::{DeviceLayout, Geometry, KernelArguments, LaneAddresses};
use tourbillon_shared::header::{Flags, HEADER_WORDS, Header};
use tourbillon_shared::partition::{PARTITIONS, even_table};
#[cfg(feature = "simt")]
use tourbillon_shared::partition::{hash, partition_of};
use tourbillon_shared::position::RingShape;
use tourbillon_shared::ring::{Cells, read_slot, write_slot};
use tourbillon_shared::slot::{Chunk, DATA_WORDS_PER_SLOT, Slot};
use tourbillon_shared::telemetry::{Counter, TelemetryPage};

tourbillon_actors::shipped!();

const CAPACITY: u32 = 512;
/// How long a message waits for others at most: long enough to be told from none.
const BATCH_WAIT_US: u32 = 300_000;

#[derive(Clone, Copy)]
enum Machine {
    Native {
        threads: u32,
    },
    #[cfg(feature = "simt")]
    Simt {
        lanes: u32,
        hostile_bus: bool,
    },
}

/// Memory that outlives the kernel: leaked, as a test may.
fn leak<T: bytemuck::Zeroable>(count: usize) -> *mut T {
    let mut values = Vec::with_capacity(count);
    values.resize_with(count, T::zeroed);
    Box::leak(values.into_boxed_slice()).as_mut_ptr()
}

/// Device memory is aligned to 256 bytes.
#[repr(C, align(256))]
#[derive(Clone, Copy, bytemuck::Zeroable)]
struct Page([u64; 32]);

struct Ring(*mut Slot);

impl Cells for Ring {
    fn load(&self, index: u32, chunk: u32) -> Chunk {
        // SAFETY: the ring was leaked with `CAPACITY` slots.
        unsafe { load_chunk((&raw const (*self.0.add(index as usize)).chunks).cast::<Chunk>().add(chunk as usize)) }
    }
    fn store(&self, index: u32, chunk: u32, value: Chunk) {
        // SAFETY: as above.
        unsafe {
            store_chunk((&raw mut (*self.0.add(index as usize)).chunks).cast::<Chunk>().add(chunk as usize), value)
        }
    }
}

struct Bench {
    requests: Ring,
    replies: Ring,
    shape: RingShape,
    position: u64,
    control: *mut ControlBlock,
    telemetry: *mut TelemetryPage,
    epoch: u32,
    doorbell: Arc<Doorbell>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Bench {
    fn start(machine: Machine, first_lap: u32) -> Self {
        let image: SystemImage = Shipped::image();
        let (blocks, warps_per_block, combined) = match machine {
            Machine::Native { threads } => (1, threads, 1),
            #[cfg(feature = "simt")]
            Machine::Simt { .. } => (4, 2, 0),
        };
        let geometry = Geometry {
            blocks,
            gates: 2 - combined,
            warps_per_block,
            combined,
            shards: 5,
            lanes: 4,
            ring_log2: 4,
            actors_per_shard: 64,
            entry_stride: image.entry_stride,
            directory_log2: Geometry::directory_log2_for(64),
            landing_bytes: 0,
            outbox_log2: 0,
            waiters: 0,
            store_log2: 0,
            mailbox_log2: 0,
            overflow_log2: 0,
            dedup_entries: 16,
            dead_letters_log2: 4,
            pool_pages: 0,
            published_pages: 0,
        };
        geometry.check().unwrap();
        let layout = DeviceLayout::new(&geometry);
        let shape = RingShape::new(CAPACITY).unwrap();
        let position = shape.position_of_lap(first_lap);
        let (requests, replies) = (leak::<Slot>(CAPACITY as usize), leak::<Slot>(CAPACITY as usize));
        let addresses = LaneAddresses {
            requests: requests as u64,
            replies: replies as u64,
            capacity_log2: shape.capacity_log2(),
            arena_bytes: 0,
            reserved: [0; 2],
        };
        let lanes = leak::<LaneAddresses>(4);
        let control = leak::<ControlBlock>(1);
        let telemetry = leak::<TelemetryPage>(1);
        let memory = leak::<Page>(layout.total_bytes.div_ceil(256) as usize) as u64;
        let arguments = leak::<KernelArguments>(1);
        // SAFETY: all of it was leaked above and nobody uses it yet.
        unsafe {
            lanes.write(addresses);
            ((memory + layout.table) as *mut [u16; PARTITIONS]).write(even_table(geometry.shards));
            ((memory + layout.lane_heads) as *mut u64).write(position);
            arguments.write(KernelArguments {
                abi_hash: tourbillon_shared::abi::HASH,
                control: control as u64,
                telemetry: telemetry as u64,
                lanes: lanes as u64,
                memory,
                layout,
                geometry,
                refresh_ns: 1_000_000,
                beat_ns: 10_000,
                reserved: [0; 2],
            });
        }
        let doorbell = Arc::new(Doorbell::default());
        let arguments = arguments as usize;
        let threads = match machine {
            Machine::Native { threads } => {
                let grid = Arc::new(Grid::new(threads, Arc::clone(&doorbell)));
                (0..threads)
                    .map(|warp| {
                        let (grid, image) = (Arc::clone(&grid), image.clone());
                        // SAFETY: everything was leaked; each warp runs once.
                        std::thread::spawn(move || unsafe { image.run_native(arguments as *const _, &grid, warp) })
                    })
                    .collect()
            }
            #[cfg(feature = "simt")]
            Machine::Simt { lanes, hostile_bus } => vec![std::thread::spawn(move || {
                let options = simt::Options { seed: 7, hostile_bus };
                // SAFETY: as above.
                if let Err(failure) = unsafe { image.run_simt(lanes, arguments as *const _, &options) } {
                    panic!("{failure}");
                }
            })],
        };
        let mut bench = Self {
            requests: Ring(requests),
            replies: Ring(replies),
            shape,
            position,
            control,
            telemetry,
            epoch: 0,
            doorbell,
            threads,
        };
        // Before anything is handled; how far the clock is from the host's does not matter here.
        // SAFETY: the control block was leaked.
        unsafe { store_chunk(&raw mut (*bench.control).clock_offset, Chunk::new([1, 0, 0], 1)) };
        bench.command(Mode::Active);
        bench
    }

    fn command(&mut self, mode: Mode) {
        self.epoch += 1;
        let chunk = Command { lanes: 1, epoch: self.epoch, batch_wait_us: BATCH_WAIT_US, ..Command::of(mode) }.encode();
        // SAFETY: the control block was leaked.
        unsafe { store_chunk(&raw mut (*self.control).command, chunk) };
        self.doorbell.ring();
    }

    fn publish(&mut self, header: Header, payload: &[u8]) -> u64 {
        let mut words = [0; FRAME_WORDS_MAX];
        let span = frame::encode(&header, payload, &mut words).unwrap();
        let at = self.position;
        for slot in 0..span as usize {
            let data = words[slot * DATA_WORDS_PER_SLOT..][..DATA_WORDS_PER_SLOT].try_into().unwrap();
            write_slot(&self.requests, self.shape, at + slot as u64, data);
        }
        self.position += u64::from(span);
        self.doorbell.ring();
        at
    }

    fn send<M: Message>(&mut self, key: u64, message: &M) -> u64 {
        let header = Header {
            key,
            kind: M::Actor::KIND,
            message: M::NUMBER,
            length: size_of::<M>() as u16,
            flags: Flags::new(frame::span_of_call(0, size_of::<M>(), size_of::<M>(), 0), 0),
            ..Header::default()
        };
        self.publish(header, message.as_bytes())
    }

    fn reply(&self, at: u64) -> (Header, Vec<u8>) {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        let wait = |position| loop {
            if let Some(data) = read_slot(&self.replies, self.shape, position) {
                return data;
            }
            assert!(self.threads.iter().all(|thread| !thread.is_finished()), "the kernel ended");
            assert!(std::time::Instant::now() < deadline, "no reply at position {position}");
            std::thread::yield_now();
        };
        let mut words = wait(at).to_vec();
        let header = Header::decode(words[..HEADER_WORDS].try_into().unwrap());
        for slot in 1..u64::from(header.flags.span()) {
            words.extend(wait(at + slot));
        }
        let mut payload = vec![0; usize::from(header.length)];
        frame::decode_payload(&header, &words, &mut payload);
        (header, payload)
    }

    fn stop(mut self) -> TelemetryPage {
        self.command(Mode::Stopped);
        for thread in self.threads.drain(..) {
            thread.join().unwrap();
        }
        // SAFETY: the page was leaked and its writer has ended.
        unsafe { self.telemetry.read() }
    }
}

fn exchange(machine: Machine) {
    let mut bench = Bench::start(machine, u32::MAX - 3);
    let mut sent = 0u64;
    let mut last_hlc = 0;
    for round in 0..60u64 {
        // Twelve counters, then one frame of eight slots.
        let adds: Vec<u64> = (0..12)
            .map(|i| bench.send(i % 4, &Add { amount: 1, sender: 0, sequence: round * 3 + i / 4 + 1 }))
            .collect();
        let words = std::array::from_fn(|i| (round as u32) << 16 | i as u32);
        let ping = bench.send(round, &Ping352 { words });
        for (i, at) in (0..12).zip(adds) {
            let (header, payload) = bench.reply(at);
            assert!(!header.flags.has(Flags::FAILED), "{header:?} {payload:?}");
            let added = Added::from_bytes(&payload).unwrap();
            assert_eq!(added.previous, round * 3 + i / 4);
            assert_eq!(added.last_sequence, round * 3 + i / 4);
            last_hlc = last_hlc.max(header.hlc);
        }
        let (header, payload) = bench.reply(ping);
        assert_eq!(header.flags.span(), 8);
        assert_eq!(payload, bytemuck::bytes_of(&words));
        sent += 13;
    }
    assert!(last_hlc > 0);
    let page = bench.stop();
    assert_eq!(page.counters[Counter::Claimed as usize], sent);
    assert_eq!(page.counters[Counter::Processed as usize], sent);
    assert_eq!(page.counters[Counter::Failed as usize], 0);
    assert_eq!(page.counters[Counter::Activated as usize], 64);
    assert_eq!(page.latency.iter().sum::<u64>(), sent);
    assert!(page.status.heartbeat > 0);
}

/// Handlers that panic, several in one window, beside keys that are well.
fn faults(machine: Machine, rounds: u32) {
    let mut bench = Bench::start(machine, 1);
    let kinds = [Fault::Index, Fault::Divide, Fault::Overflow, Fault::Panic];
    let mut panics = 0;
    for round in 0..rounds {
        // All on one actor: the good ones before, between and after the bad ones are handled, in order.
        let plan = [Fault::Nothing, kinds[round as usize % 4], Fault::Nothing, Fault::Error, Fault::Nothing];
        let at = plan.map(|fault| bench.send(9, &Trigger { fault, argument: round }));
        let other = bench.send(10, &Trigger { fault: Fault::Nothing, argument: 0 });
        let mut handled = u64::from(round) * 3;
        for (fault, at) in plan.into_iter().zip(at) {
            let (header, payload) = bench.reply(at);
            assert_eq!(header.flags.has(Flags::FAILED), fault != Fault::Nothing, "{fault:?}: {payload:?}");
            let words: Vec<u32> = payload.chunks_exact(4).map(bytemuck::pod_read_unaligned).collect();
            match fault {
                Fault::Nothing => {
                    handled += 1;
                    assert_eq!(bytemuck::pod_read_unaligned::<u64>(&payload), handled);
                }
                Fault::Error => assert_eq!(words, [FailureCode::Handler as u32, round]),
                _ => {
                    panics += 1;
                    assert_eq!(words[0], FailureCode::Panicked as u32);
                    assert!(words[1] > 0, "the line of the panic is known");
                }
            }
        }
        assert_eq!(bytemuck::pod_read_unaligned::<u64>(&bench.reply(other).1), u64::from(round) + 1);
    }
    let page = bench.stop();
    assert_eq!(page.counters[Counter::Panicked as usize], panics);
    assert_eq!(page.counters[Counter::Failed as usize], panics + u64::from(rounds));
    assert_eq!(page.counters[Counter::Processed as usize], 6 * u64::from(rounds));
}

#[test]
fn panics_are_answered_by_one_thread() {
    faults(Machine::Native { threads: 1 }, 50);
}

#[cfg(feature = "simt")]
#[test]
fn panics_are_answered_by_warps_of_32() {
    faults(Machine::Simt { lanes: 32, hostile_bus: false }, 20);
}

#[cfg(feature = "simt")]
#[test]
fn a_warp_that_loses_all_runners_at_once_leaves_its_frames_to_another() {
    let mut bench = Bench::start(Machine::Simt { lanes: 4, hostile_bus: true }, 1);
    bench.command(Mode::Paused);
    std::thread::sleep(std::time::Duration::from_millis(50));
    // Found in one window, for nothing is taken while they are sent. All keys belong to the same shard of five.
    let keys: Vec<u64> = (0..).filter(|key| even_table(5)[partition_of(hash(4, *key))] == 3).take(8).collect();
    let faults = [Fault::Panic, Fault::Panic, Fault::Panic, Fault::Nothing];
    let sent: Vec<u64> =
        (0..8).map(|i| bench.send(keys[i], &Trigger { fault: faults[i.min(3)], argument: 0 })).collect();
    bench.command(Mode::Active);
    for (i, at) in sent.into_iter().enumerate() {
        let (header, _) = bench.reply(at);
        assert_eq!(header.flags.has(Flags::FAILED), i < 3);
    }
    let page = bench.stop();
    assert_eq!(page.counters[Counter::Processed as usize], 8);
    assert_eq!(page.counters[Counter::Panicked as usize], 3);
    assert_eq!(page.latency.iter().sum::<u64>(), 8);
}

/// What is left of a deep backlog waits for others, once, and for its time only.
#[cfg(feature = "simt")]
fn rest_of_a_backlog(lanes: u32) {
    /// The first comes by a look at the head; behind eight windows of 32 slots five are left, which fill no machine's window.
    const MESSAGES: u32 = 1 + 8 * 32 + 5;
    let wait = std::time::Duration::from_micros(BATCH_WAIT_US.into());
    let mut bench = Bench::start(Machine::Simt { lanes, hostile_bus: false }, 1);
    bench.command(Mode::Paused);
    // Obeyed within a few rounds; what comes meanwhile only makes the backlog shorter than eight windows of 32 lanes.
    std::thread::sleep(std::time::Duration::from_millis(50));
    let at: Vec<u64> = (1..=MESSAGES)
        .map(|i| bench.send(u64::from(i % 7), &Add { amount: 1, sender: 0, sequence: i.into() }))
        .collect();
    let began = std::time::Instant::now();
    bench.command(Mode::Active);
    for &position in &at {
        bench.reply(position);
    }
    // More than five where a shard had no room for all of a window.
    let waited = began.elapsed();
    assert!(waited > wait / 2, "the rest waited {waited:?}");
    // A lone message behind it does not wait.
    let began = std::time::Instant::now();
    let lone = bench.send(1, &Add { amount: 1, sender: 0, sequence: u64::from(MESSAGES) + 1 });
    bench.reply(lone);
    assert!(began.elapsed() < wait, "a lone message waited");
    let page = bench.stop();
    assert_eq!(page.counters[Counter::Processed as usize], u64::from(MESSAGES) + 1);
}

#[test]
#[cfg(feature = "simt")]
fn the_rest_of_a_deep_backlog_waits_for_others_with_warps_of_4() {
    rest_of_a_backlog(4);
}

#[test]
#[cfg(feature = "simt")]
fn the_rest_of_a_deep_backlog_waits_for_others_with_warps_of_32() {
    rest_of_a_backlog(32);
}

#[test]
fn messages_are_answered_by_one_thread() {
    exchange(Machine::Native { threads: 1 });
}

#[test]
fn messages_are_answered_by_three_threads() {
    exchange(Machine::Native { threads: 3 });
}

#[cfg(feature = "simt")]
#[test]
fn messages_are_answered_by_warps_of_4() {
    exchange(Machine::Simt { lanes: 4, hostile_bus: false });
}

#[cfg(feature = "simt")]
#[test]
fn messages_are_answered_by_warps_of_32() {
    exchange(Machine::Simt { lanes: 32, hostile_bus: false });
}

#[cfg(feature = "simt")]
#[test]
fn messages_are_answered_over_a_hostile_bus() {
    exchange(Machine::Simt { lanes: 32, hostile_bus: true });
}
