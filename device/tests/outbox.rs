//! Outboxes against an oracle: the engine's own steps, on hand-made memory, in any order.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};

use bytemuck::Zeroable;
use proptest::prelude::*;
use tourbillon_device::arch::native::{Native, load_chunk, store_chunk};
use tourbillon_device::outbox::{look_at_credits, mail_of, reserve, send, store};
use tourbillon_shared::frame::{FRAME_WORDS_MAX, decode_payload, slots_for};
use tourbillon_shared::geometry::{DeviceLayout, Geometry, KernelArguments, LaneAddresses};
use tourbillon_shared::lane::{LANE_HEADER_BYTES, LaneConstants};
use tourbillon_shared::outbox::{
    Credit, LaneOutbox, NOTICES_MAX, OutboxPolicy, OutboxState, Owner, Subscriber, is_notice_for, notice_number,
    read_frame,
};
use tourbillon_shared::position::RingShape;
use tourbillon_shared::ring::Cells;
use tourbillon_shared::slot::{Chunk, Slot};

const LANES: u32 = 3;
const OUTBOX_LOG2: u32 = 5;
const KIND: u16 = 9;

/// Aligned like device memory and like a lane.
#[repr(C, align(256))]
#[derive(Clone, Copy, Zeroable)]
struct Page([u64; 32]);

fn pages(bytes: u64) -> Vec<Page> {
    vec![Page::zeroed(); bytes.div_ceil(256) as usize]
}

/// Device memory and lanes of an engine that does not run.
struct Memory {
    arguments: Box<KernelArguments>,
    lanes: Vec<(Vec<Page>, LaneConstants)>,
    _device: Vec<Page>,
    _addresses: Vec<LaneAddresses>,
}

struct Ring(*mut Slot);

impl Cells for Ring {
    fn load(&self, index: u32, chunk: u32) -> Chunk {
        // SAFETY: the ring lives as long as the memory, and an index is below its capacity.
        unsafe { load_chunk(self.0.add(index as usize).cast::<Chunk>().add(chunk as usize)) }
    }
    fn store(&self, index: u32, chunk: u32, value: Chunk) {
        // SAFETY: as above.
        unsafe { store_chunk(self.0.add(index as usize).cast::<Chunk>().add(chunk as usize), value) }
    }
}

impl Memory {
    fn new(first_lap: u32) -> Self {
        let geometry = Geometry {
            blocks: 1,
            gates: 1,
            warps_per_block: 1,
            combined: 1,
            shards: 1,
            lanes: LANES,
            ring_log2: 4,
            actors_per_shard: 1,
            entry_stride: 32,
            directory_log2: 1,
            landing_bytes: 0,
            outbox_log2: OUTBOX_LOG2,
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
        let rings = RingShape::new(16).unwrap();
        let shape = RingShape::from_log2(OUTBOX_LOG2);
        let mut device = pages(layout.total_bytes);
        let memory = device.as_mut_ptr() as u64;
        let mut lanes = Vec::new();
        let mut addresses = Vec::new();
        for number in 0..LANES {
            let constants = LaneConstants::new(number, rings, rings.position_of_lap(first_lap), 256, OUTBOX_LOG2);
            let first = constants.first_outbox_position();
            let mut lane = pages(constants.total_bytes);
            let start = lane.as_mut_ptr() as u64;
            addresses.push(LaneAddresses {
                requests: start + constants.request_offset,
                replies: start + constants.reply_offset,
                capacity_log2: constants.capacity_log2,
                arena_bytes: constants.arena_bytes,
                reserved: [0; 2],
            });
            assert_eq!(addresses[number as usize].outbox(), start + constants.outbox_offset);
            assert_eq!(constants.request_offset as usize, LANE_HEADER_BYTES);
            // SAFETY: both lie inside memory that was just allocated.
            unsafe {
                let state = (memory + layout.outboxes) as *mut OutboxState;
                state.add(number as usize).write(OutboxState::new(shape, first));
                (*addresses[number as usize].head()).outbox.credit = u64::from(first as u32);
                (*addresses[number as usize].head()).outbox.read = first;
            }
            lanes.push((lane, constants));
        }
        let arguments = Box::new(KernelArguments {
            abi_hash: tourbillon_shared::abi::HASH,
            control: 0,
            telemetry: 0,
            lanes: addresses.as_ptr() as u64,
            memory,
            layout,
            geometry,
            refresh_ns: 0,
            beat_ns: 0,
            reserved: [0; 2],
        });
        Self { arguments, lanes, _device: device, _addresses: addresses }
    }

    fn line(&mut self, lane: usize) -> (&AtomicU64, &AtomicU64) {
        let head = self.lanes[lane].0.as_mut_ptr().wrapping_byte_add(256).cast::<LaneOutbox>();
        // SAFETY: the line of the lane's head; both words are aligned.
        unsafe { (AtomicU64::from_ptr(&raw mut (*head).credit), AtomicU64::from_ptr(&raw mut (*head).read)) }
    }

    fn state(&self, lane: usize) -> OutboxState {
        let first = (self.arguments.memory + self.arguments.layout.outboxes) as *const OutboxState;
        // SAFETY: the state of a lane.
        unsafe { first.add(lane).read() }
    }

    fn ring(&mut self, lane: usize) -> Ring {
        let offset = self.lanes[lane].1.outbox_offset as usize;
        Ring(self.lanes[lane].0.as_mut_ptr().wrapping_byte_add(offset).cast())
    }

    /// Posts what a handler would post; whether its message succeeded.
    fn post(&self, notices: &[(Subscriber, Vec<u8>)], key: u64) -> bool {
        let mail = mail_of(&self.arguments, 0);
        // SAFETY: the memory lives, one thread uses it, and lengths are those of frames.
        unsafe {
            for (index, (subscriber, bytes)) in (0..).zip(notices) {
                store(&mail, 0, index, *subscriber, bytes.len() as u16, bytes);
            }
            let posted = notices.len() as u32;
            let fits = reserve::<Native>(&mail, 0, posted);
            if fits {
                send::<Native>(&mail, 0, posted, KIND, key, key + 1);
            }
            fits
        }
    }
}

/// The same as a list of what is in each ring.
#[derive(Clone, Debug, Default)]
struct Model {
    /// As the client has it, and as the device knows it.
    owner: Owner,
    known: Owner,
    /// Generation, key, bytes: of what was sent and not read.
    unread: VecDeque<(u32, u64, Vec<u8>)>,
    /// Slots that were read and not given back.
    read: u64,
    room: u64,
    /// Posted, dropped, refused, strayed.
    counts: [u64; 4],
}

#[derive(Clone, Debug)]
enum Step {
    /// Lane, how far the generation is from the owner's, length.
    Post(Vec<(u32, u32, usize)>),
    Read(usize, usize),
    Look,
    Open(usize, bool),
    Close(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let length = prop_oneof![3 => 0usize..=16, 1 => 17usize..=352];
    let generation = prop_oneof![8 => Just(0u32), 1 => Just(1), 1 => any::<u32>()];
    let notice = (0..=LANES, generation, length);
    let lane = 0..LANES as usize;
    let step = prop_oneof![
        8 => proptest::collection::vec(notice, 1..=NOTICES_MAX as usize).prop_map(Step::Post),
        6 => (lane.clone(), 1usize..12).prop_map(|(lane, frames)| Step::Read(lane, frames)),
        4 => Just(Step::Look),
        1 => (lane.clone(), any::<bool>()).prop_map(|(lane, refuses)| Step::Open(lane, refuses)),
        1 => lane.prop_map(Step::Close),
    ];
    proptest::collection::vec(step, 1..120)
}

fn slots(bytes: &[u8]) -> u64 {
    slots_for(0, bytes.len()).into()
}

/// What the rules say about a message that posts `notices`.
fn post(models: &mut [Model], notices: &[(Subscriber, Vec<u8>)], key: u64) -> bool {
    let mut after = models.to_vec();
    for (subscriber, bytes) in notices {
        let Some(model) = after.get_mut(subscriber.lane as usize) else { continue };
        if !model.known.is(subscriber.generation) {
            model.counts[3] += 1;
        } else if model.room >= slots(bytes) {
            model.room -= slots(bytes);
            model.unread.push_back((subscriber.generation, key, bytes.clone()));
            model.counts[0] += 1;
        } else if model.known.refuses() {
            models[subscriber.lane as usize].counts[2] += 1;
            return false;
        } else {
            model.counts[1] += 1;
        }
    }
    models.clone_from_slice(&after);
    true
}

proptest! {
    // A seeded fault leaves no file of failures behind.
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn outboxes_are_as_a_list_says(steps in steps(), first_lap in prop_oneof![Just(1u32), (u32::MAX - 2)..=u32::MAX]) {
        let mut memory = Memory::new(first_lap);
        let shape = RingShape::from_log2(OUTBOX_LOG2);
        let capacity = u64::from(shape.capacity());
        let mut models = vec![Model { room: capacity, ..Model::default() }; LANES as usize];
        let mut positions: Vec<u64> = memory.lanes.iter().map(|lane| lane.1.first_outbox_position()).collect();
        for (key, step) in (0u64..).zip(steps) {
            match step {
                Step::Post(notices) => {
                    let notices: Vec<_> = (0u8..)
                        .zip(notices)
                        .map(|(index, (lane, offset, length))| {
                            let owner = models.get(lane as usize).map_or(1, |model| model.owner.generation());
                            let subscriber = Subscriber { lane, generation: owner.wrapping_add(offset) };
                            let bytes = (0..length).map(|i| (key as u8).wrapping_add(index).wrapping_mul(i as u8 | 1));
                            (subscriber, bytes.collect::<Vec<u8>>())
                        })
                        .collect();
                    prop_assert_eq!(memory.post(&notices, key), post(&mut models, &notices, key));
                }
                Step::Read(lane, frames) => {
                    for _ in 0..frames {
                        let mut words = [0; FRAME_WORDS_MAX];
                        let found = read_frame(&memory.ring(lane), shape, positions[lane], &mut words);
                        let expected = models[lane].unread.pop_front();
                        prop_assert_eq!(found.is_some(), expected.is_some());
                        let (Some((header, span)), Some((generation, key, bytes))) = (found, expected) else { break };
                        prop_assert!(is_notice_for(&header, generation));
                        prop_assert_eq!((header.kind, header.key, header.hlc), (KIND, key, key + 1));
                        prop_assert_eq!(usize::from(notice_number(&header)), bytes.len());
                        let mut payload = vec![0; bytes.len()];
                        prop_assert_eq!(decode_payload(&header, &words, &mut payload), bytes.len());
                        prop_assert_eq!(payload, bytes);
                        positions[lane] += u64::from(span);
                        models[lane].read += u64::from(span);
                    }
                    let credit = Credit { read: positions[lane] as u32, owner: models[lane].owner };
                    memory.line(lane).0.store(credit.encode(), Ordering::Release);
                    memory.line(lane).1.store(positions[lane], Ordering::Relaxed);
                }
                Step::Look => {
                    // SAFETY: the memory lives, and one thread uses it.
                    unsafe { look_at_credits::<Native>(&memory.arguments, 0, 1) };
                    for model in &mut models {
                        model.room += std::mem::take(&mut model.read);
                        model.known = model.owner;
                    }
                }
                Step::Open(lane, refuses) => {
                    let policy = if refuses { OutboxPolicy::Refuse } else { OutboxPolicy::Drop };
                    let (credit, read) = memory.line(lane);
                    let last = Credit::decode(credit.load(Ordering::Relaxed));
                    let position = LaneOutbox::position(last, read.load(Ordering::Relaxed));
                    let owner = Owner::new(last.owner.next_generation(), policy);
                    credit.store(Credit { read: position as u32, owner }.encode(), Ordering::Release);
                    prop_assert_eq!(position, positions[lane]);
                    models[lane].owner = owner;
                }
                Step::Close(lane) => {
                    let owner = models[lane].owner.closed();
                    let credit = Credit { read: positions[lane] as u32, owner };
                    memory.line(lane).0.store(credit.encode(), Ordering::Release);
                    models[lane].owner = owner;
                }
            }
            for (lane, model) in models.iter().enumerate() {
                let state = memory.state(lane);
                prop_assert_eq!(state.room, model.room);
                prop_assert_eq!([state.posted, state.dropped, state.refused, state.strayed], model.counts);
            }
        }
    }

    /// Whatever a client claims to have read, its outbox never has more room than slots.
    #[test]
    fn hostile_credit_makes_no_room(words in proptest::collection::vec(any::<u64>(), 1..20), honest in 0u64..8) {
        let mut memory = Memory::new(1);
        let capacity = 1u64 << OUTBOX_LOG2;
        for word in words {
            memory.line(1).0.store(word, Ordering::Release);
            // SAFETY: the memory lives, and one thread uses it.
            unsafe { look_at_credits::<Native>(&memory.arguments, 0, 1) };
            let subscriber = Subscriber { lane: 1, generation: Credit::decode(word).owner.generation() };
            for key in 0..honest {
                memory.post(&[(subscriber, vec![7; 16])], key);
            }
            let state = memory.state(1);
            let unread = state.tail.wrapping_sub(state.seen) as u32;
            prop_assert!(state.room <= capacity);
            prop_assert_eq!(state.room + u64::from(unread), capacity);
        }
    }
}
