//! Models of the lock-free parts, explored by loom in every interleaving up to a bound on preemptions.
//!
//! They use the engine's own code (slots, credit) and its table of orderings; only memory is loom's.

#![expect(clippy::arc_with_non_send_sync, reason = "loom's cells are shared only as its model allows")]

use std::sync::Arc;

use loom::cell::UnsafeCell;
use loom::model::Builder;
use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use tourbillon_device::arch::ordering;
use tourbillon_shared::control::{Command, Mode};
use tourbillon_shared::litmus::{is_message_fresh, message_of};
use tourbillon_shared::position::RingShape;
use tourbillon_shared::ring::{Cells, has_room, read_slot, write_slot};
use tourbillon_shared::slot::{CHUNKS_PER_SLOT, Chunk, DATA_WORDS_PER_SLOT, TAG_WORD};

#[path = "loom/letters.rs"]
mod letters;
#[path = "loom/pools.rs"]
mod pools;

/// Preemptions a path: enough for every defect seeded here, few enough to end in seconds.
const PREEMPTIONS: usize = 2;

/// Steps of one path; the loops that wait make paths long.
const BRANCHES_MAX: usize = 20_000;

fn explore(model: impl Fn() + Sync + Send + 'static) {
    explore_to(PREEMPTIONS, model);
}

fn explore_to(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.max_branches = BRANCHES_MAX;
    builder.check(model);
}

/// A chunk of a host: words first, the tag with release; the tag with acquire, then the words.
struct LoomChunk([AtomicU32; 4]);

impl LoomChunk {
    fn new() -> Self {
        Self(std::array::from_fn(|_| AtomicU32::new(0)))
    }

    fn load(&self) -> Chunk {
        let tag = self.0[TAG_WORD].load(ordering::tag_load());
        Chunk::new(std::array::from_fn(|word| self.0[word].load(Ordering::Relaxed)), tag)
    }

    fn store(&self, value: Chunk) {
        for word in 0..TAG_WORD {
            self.0[word].store(value.words[word], Ordering::Relaxed);
        }
        self.0[TAG_WORD].store(value.tag(), ordering::tag_store());
    }
}

struct LoomCells(Vec<[LoomChunk; CHUNKS_PER_SLOT]>);

impl LoomCells {
    fn new(slots: u32) -> Self {
        Self((0..slots).map(|_| std::array::from_fn(|_| LoomChunk::new())).collect())
    }
}

impl Cells for LoomCells {
    fn load(&self, index: u32, chunk: u32) -> Chunk {
        self.0[index as usize][chunk as usize].load()
    }
    fn store(&self, index: u32, chunk: u32, value: Chunk) {
        self.0[index as usize][chunk as usize].store(value);
    }
}

fn content(position: u64) -> [u32; DATA_WORDS_PER_SLOT] {
    std::array::from_fn(|word| (position as u32 + 1) * 100 + word as u32)
}

/// One writer, one reader, fewer slots than messages: whoever finds a slot finds all of it, in order, and nothing is
/// overwritten before it was read.
#[test]
fn a_ring_delivers_each_slot_whole_and_once() {
    explore(|| {
        // One slot: every write after the first needs the reader's credit, and every lap is a new one.
        let shape = RingShape::from_log2(0);
        let cells = Arc::new(LoomCells::new(1));
        let freed = Arc::new(AtomicU64::new(0));
        // Plain memory that lives and dies with the slot: loom reports any access that the protocol does not order.
        let shadow = Arc::new(UnsafeCell::new(0u64));
        let messages = 2u64;
        let writer = {
            let (cells, freed, shadow) = (Arc::clone(&cells), Arc::clone(&freed), Arc::clone(&shadow));
            loom::thread::spawn(move || {
                for tail in 0..messages {
                    while !has_room(shape, tail, freed.load(ordering::freed_load()), 1) {
                        loom::thread::yield_now();
                    }
                    // SAFETY: the slot is the writer's, as the credit says.
                    shadow.with_mut(|shadow| unsafe { *shadow = tail });
                    write_slot(&*cells, shape, tail, &content(tail));
                }
            })
        };
        for head in 0..messages {
            let data = loop {
                match read_slot(&*cells, shape, head) {
                    Some(data) => break data,
                    None => loom::thread::yield_now(),
                }
            };
            assert_eq!(data, content(head));
            // SAFETY: the slot is the reader's, as its tags say.
            assert_eq!(shadow.with(|shadow| unsafe { *shadow }), head);
            freed.store(head + 1, ordering::freed_store());
        }
        writer.join().unwrap();
    });
}

/// The lock word of a turn or a gate guards plain memory.
#[test]
fn a_turn_is_exclusive() {
    explore(|| {
        let turn = Arc::new((AtomicU32::new(0), UnsafeCell::new(0u32)));
        let run = |turn: &(AtomicU32, UnsafeCell<u32>)| {
            if turn.0.compare_exchange(0, 1, ordering::turn_take(), Ordering::Relaxed).is_ok() {
                // SAFETY: the turn is held.
                turn.1.with_mut(|state| unsafe { *state += 1 });
                turn.0.store(0, ordering::turn_give());
                1
            } else {
                0
            }
        };
        let other = {
            let turn = Arc::clone(&turn);
            loom::thread::spawn(move || run(&turn))
        };
        let ran = run(&turn) + other.join().unwrap();
        // SAFETY: the other thread has ended.
        assert_eq!(turn.1.with(|state| unsafe { *state }), ran);
        assert!(ran >= 1);
    });
}

/// The short way of a gate takes the lock relaxed and orders what it then reads by a fence.
#[test]
fn a_lock_taken_relaxed_guards_after_its_fence() {
    explore(|| {
        let lock = Arc::new((AtomicU32::new(0), UnsafeCell::new(0u32)));
        let run = |lock: &(AtomicU32, UnsafeCell<u32>)| {
            if lock.0.compare_exchange(0, 1, Ordering::Relaxed, Ordering::Relaxed).is_err() {
                return 0;
            }
            if let Some(ordering) = ordering::turn_fence() {
                loom::sync::atomic::fence(ordering);
            }
            // SAFETY: the lock is held.
            lock.1.with_mut(|state| unsafe { *state += 1 });
            lock.0.store(0, ordering::turn_give());
            1
        };
        let other = {
            let lock = Arc::clone(&lock);
            loom::thread::spawn(move || run(&lock))
        };
        let ran = run(&lock) + other.join().unwrap();
        // SAFETY: the other thread has ended.
        assert_eq!(lock.1.with(|state| unsafe { *state }), ran);
    });
}

/// The warps of a block leave: the last one finds the positions that all have left behind.
#[test]
fn the_last_to_count_down_sees_all() {
    explore(|| {
        struct Block {
            running: AtomicU32,
            positions: [UnsafeCell<u32>; 3],
        }
        let block =
            Arc::new(Block { running: AtomicU32::new(3), positions: std::array::from_fn(|_| UnsafeCell::new(0)) });
        let leave = |block: &Block, warp: usize| {
            // SAFETY: the position is this warp's until it has counted down.
            block.positions[warp].with_mut(|position| unsafe { *position = warp as u32 + 10 });
            if block.running.fetch_sub(1, ordering::countdown()) != 1 {
                return 0;
            }
            for (warp, position) in block.positions.iter().enumerate() {
                // SAFETY: all others have counted down and write no more.
                assert_eq!(position.with(|position| unsafe { *position }), warp as u32 + 10);
            }
            1
        };
        let others = [1, 2].map(|warp| {
            let block = Arc::clone(&block);
            loom::thread::spawn(move || leave(&block, warp))
        });
        let mut last = leave(&block, 0);
        for other in others {
            last += other.join().unwrap();
        }
        assert_eq!(last, 1);
    });
}

/// From block to block: words in device memory, then a release; an acquire, then the words.
///
/// The writer goes on without waiting, so what is found may be newer than the flag, and never older.
#[test]
fn what_a_block_publishes_is_never_older_than_its_flag() {
    static FOUND: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);
    explore(|| {
        let words = Arc::new((AtomicU64::new(0), [AtomicU64::new(0), AtomicU64::new(0)]));
        let writer = {
            let words = Arc::clone(&words);
            loom::thread::spawn(move || {
                for round in 1..=2 {
                    for (index, word) in (0..).zip(&words.1) {
                        word.store(message_of(round, index), Ordering::Relaxed);
                    }
                    words.0.store(round.into(), ordering::freed_store());
                }
            })
        };
        let flag = words.0.load(ordering::freed_load()) as u32;
        if flag != 0 {
            for (index, word) in (0..).zip(&words.1) {
                assert!(is_message_fresh(word.load(Ordering::Relaxed), index, flag));
            }
            FOUND.store(true, std::sync::atomic::Ordering::Relaxed);
        }
        writer.join().unwrap();
    });
    assert!(FOUND.load(std::sync::atomic::Ordering::Relaxed), "no interleaving found the flag");
}

/// The host commands, the control warp mirrors, a warp obeys: it sees the whole command or none of it.
#[test]
fn a_command_arrives_whole() {
    explore(|| {
        let words = Arc::new((LoomChunk::new(), LoomChunk::new()));
        let command = Command { lanes: 0x5_0000_0003, epoch: 1, ..Command::of(Mode::Paused) };
        let control = {
            let words = Arc::clone(&words);
            loom::thread::spawn(move || {
                loop {
                    let chunk = words.0.load();
                    if chunk.tag() == 1 {
                        return words.1.store(chunk);
                    }
                    loom::thread::yield_now();
                }
            })
        };
        words.0.store(command.encode());
        loop {
            let obeyed = Command::decode(words.1.load());
            if obeyed.epoch == 1 {
                assert_eq!(obeyed, command);
                break;
            }
            loom::thread::yield_now();
        }
        control.join().unwrap();
    });
}

/// A warp obeys a pause, the control warp reports it: the host may then read what the warp wrote.
///
/// Each looks once: two loops that wait for each other have more interleavings than loom can hold.
#[test]
fn a_pause_that_is_reported_has_happened() {
    static REPORTED: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);
    explore(|| {
        let words = Arc::new((AtomicU32::new(0), AtomicU32::new(0), UnsafeCell::new(0u32)));
        let warp = {
            let words = Arc::clone(&words);
            loom::thread::spawn(move || {
                // SAFETY: the host reads only after the report.
                words.2.with_mut(|state| unsafe { *state = 7 });
                words.0.store(1, ordering::obeyed_store());
            })
        };
        let control = {
            let words = Arc::clone(&words);
            loom::thread::spawn(move || {
                if words.0.load(ordering::obeyed_load()) == 1 {
                    words.1.store(1, ordering::obeyed_store());
                }
            })
        };
        if words.1.load(ordering::obeyed_load()) == 1 {
            // SAFETY: the warp has obeyed, and writes no more.
            assert_eq!(words.2.with(|state| unsafe { *state }), 7);
            REPORTED.store(true, std::sync::atomic::Ordering::Relaxed);
        }
        warp.join().unwrap();
        control.join().unwrap();
    });
    assert!(REPORTED.load(std::sync::atomic::Ordering::Relaxed), "no interleaving reported the pause");
}

/// A payload by way of an arena, there and back, in a block that is used twice: whoever finds the head finds the payload, whoever finds
/// the reply finds the reply's payload, and nobody writes what another still reads.
///
/// The device is a GPU here: its chunks are relaxed and whole, and only its fences order them. So a chunk is one word.
#[test]
fn an_arena_carries_whole_payloads_both_ways() {
    explore(|| {
        struct Block {
            head: AtomicU64,
            reply: AtomicU64,
            payload: UnsafeCell<u64>,
            reply_payload: UnsafeCell<u64>,
        }
        let block = Arc::new(Block {
            head: AtomicU64::new(0),
            reply: AtomicU64::new(0),
            payload: UnsafeCell::new(0),
            reply_payload: UnsafeCell::new(0),
        });
        let tickets = 1..=2u64;
        let device = {
            let (block, tickets) = (Arc::clone(&block), tickets.clone());
            loom::thread::spawn(move || {
                for ticket in tickets {
                    while block.head.load(Ordering::Relaxed) != ticket {
                        loom::thread::yield_now();
                    }
                    if let Some(ordering) = ordering::arena_acquire() {
                        loom::sync::atomic::fence(ordering);
                    }
                    // SAFETY: the head says that the payload is there; the host writes it again only after the reply.
                    let value = block.payload.with(|payload| unsafe { *payload });
                    assert_eq!(value, ticket * 10);
                    // SAFETY: the host reads it only after the reply, and had read the last one before this request.
                    block.reply_payload.with_mut(|payload| unsafe { *payload = value + 1 });
                    if let Some(ordering) = ordering::arena_release() {
                        loom::sync::atomic::fence(ordering);
                    }
                    block.reply.store(ticket, Ordering::Relaxed);
                }
            })
        };
        for ticket in tickets {
            // SAFETY: the block is the host's, for the last reply has come.
            block.payload.with_mut(|payload| unsafe { *payload = ticket * 10 });
            block.head.store(ticket, ordering::tag_store());
            while block.reply.load(ordering::tag_load()) != ticket {
                loom::thread::yield_now();
            }
            // SAFETY: the reply says that its payload is there.
            assert_eq!(block.reply_payload.with(|payload| unsafe { *payload }), ticket * 10 + 1);
        }
        device.join().unwrap();
    });
}

/// An outbox with two writers and fewer slots than notices: nobody writes a slot that was not read, and whoever finds a slot finds
/// what its writer put there.
///
/// A writer may hold room since before the reader's credit that its place needs: only the tickets tell it of that. Everybody looks
/// once, as what is posted without room is dropped: loops that wait for each other have too many interleavings.
#[test]
fn an_outbox_has_room_behind_every_ticket() {
    static WRAPPED: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);
    // One more than elsewhere: a writer is held up between room and ticket, another between two notices.
    explore_to(PREEMPTIONS + 1, || {
        struct Outbox {
            room: AtomicU64,
            tail: AtomicU64,
            credit: AtomicU64,
            tags: [AtomicU64; 2],
            slots: [UnsafeCell<u64>; 2],
        }
        let outbox = Arc::new(Outbox {
            room: AtomicU64::new(2),
            tail: AtomicU64::new(0),
            credit: AtomicU64::new(0),
            tags: std::array::from_fn(|_| AtomicU64::new(0)),
            slots: std::array::from_fn(|_| UnsafeCell::new(0)),
        });
        let spawn = |run: fn(&Outbox)| {
            let outbox = Arc::clone(&outbox);
            loom::thread::spawn(move || run(&outbox))
        };
        fn post(outbox: &Outbox) {
            if (outbox.room.fetch_sub(1, ordering::room_take()) as i64) < 1 {
                outbox.room.fetch_add(1, Ordering::Relaxed);
                return;
            }
            let position = outbox.tail.fetch_add(1, ordering::ticket_take());
            let index = position as usize % 2;
            // SAFETY: the place is this writer's, as room and ticket say.
            outbox.slots[index].with_mut(|slot| unsafe { *slot = position + 10 });
            outbox.tags[index].store(1 + position / 2, ordering::tag_store());
        }
        let threads = [
            spawn(post),
            spawn(|outbox| {
                post(outbox);
                post(outbox);
            }),
            // The reader of the first slot.
            spawn(|outbox| {
                if outbox.tags[0].load(ordering::tag_load()) == 1 {
                    // SAFETY: the slot is the reader's, as its tag says.
                    assert_eq!(outbox.slots[0].with(|slot| unsafe { *slot }), 10);
                    outbox.credit.store(1, ordering::credit_store());
                }
            }),
            // The control warp.
            spawn(|outbox| {
                if outbox.credit.load(Ordering::Relaxed) == 1 {
                    if let Some(ordering) = ordering::arena_acquire() {
                        loom::sync::atomic::fence(ordering);
                    }
                    outbox.room.fetch_add(1, Ordering::Relaxed);
                }
            }),
        ];
        for thread in threads {
            thread.join().unwrap();
        }
        let posted = outbox.tail.load(Ordering::Relaxed);
        for position in posted.saturating_sub(2)..posted {
            // SAFETY: all writers have ended.
            assert_eq!(outbox.slots[position as usize % 2].with(|slot| unsafe { *slot }), position + 10);
        }
        WRAPPED.fetch_or(posted == 3, std::sync::atomic::Ordering::Relaxed);
    });
    assert!(WRAPPED.load(std::sync::atomic::Ordering::Relaxed), "no interleaving used a slot twice");
}

/// A mailbox of one slot: a second letter goes where the first was only when that was read.
#[test]
fn a_mailbox_is_read_before_it_is_written_again() {
    static WRAPPED: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);
    explore(|| {
        struct Mailbox {
            room: AtomicU64,
            tail: AtomicU64,
            tag: AtomicU64,
            slot: UnsafeCell<u64>,
        }
        let mailbox = Arc::new(Mailbox {
            room: AtomicU64::new(1),
            tail: AtomicU64::new(0),
            tag: AtomicU64::new(0),
            slot: UnsafeCell::new(0),
        });
        fn send(mailbox: &Mailbox) {
            if (mailbox.room.fetch_sub(1, ordering::room_take()) as i64) < 1 {
                mailbox.room.fetch_add(1, Ordering::Relaxed);
                return;
            }
            let position = mailbox.tail.fetch_add(1, ordering::place_take());
            // SAFETY: the place is this writer's, as room and ticket say.
            mailbox.slot.with_mut(|slot| unsafe { *slot = position + 10 });
            mailbox.tag.store(1 + position, ordering::tag_store());
        }
        let spawn = |run: fn(&Mailbox)| {
            let mailbox = Arc::clone(&mailbox);
            loom::thread::spawn(move || run(&mailbox))
        };
        let threads = [
            spawn(send),
            spawn(send),
            spawn(|mailbox| {
                if mailbox.tag.load(ordering::tag_load()) == 1 {
                    // SAFETY: the slot is the reader's, as its tag says.
                    assert_eq!(mailbox.slot.with(|slot| unsafe { *slot }), 10);
                    mailbox.tail.fetch_add(0, ordering::read_tell());
                    mailbox.room.fetch_add(1, ordering::room_give());
                }
            }),
        ];
        for thread in threads {
            thread.join().unwrap();
        }
        WRAPPED.fetch_or(mailbox.tail.load(Ordering::Relaxed) == 2, std::sync::atomic::Ordering::Relaxed);
    });
    assert!(WRAPPED.load(std::sync::atomic::Ordering::Relaxed), "no interleaving used the slot twice");
}
