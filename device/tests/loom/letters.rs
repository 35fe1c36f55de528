//! Models of letters that ask for no room: criers of broadcasts, and those that are put back in line.

use std::sync::Arc;

use loom::cell::UnsafeCell;
use loom::sync::atomic::{AtomicU64, Ordering};
use tourbillon_device::arch::ordering;

use super::explore;

/// One number, two who want to broadcast, and a shard: the message is read before the number's next holder writes another, and who finds a crier
/// finds the message of its broadcast, or knows that it is not there yet.
#[test]
fn a_number_has_one_broadcast_at_a_time() {
    static REUSED: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);
    explore(|| {
        struct Broadcasts {
            room: AtomicU64,
            tries: AtomicU64,
            busy: AtomicU64,
            left: AtomicU64,
            begun: AtomicU64,
            message: UnsafeCell<u64>,
            /// What the criers say, in the order in which they came.
            tail: AtomicU64,
            criers: [AtomicU64; 2],
        }
        let broadcasts = Arc::new(Broadcasts {
            room: AtomicU64::new(1),
            tries: AtomicU64::new(0),
            busy: AtomicU64::new(0),
            left: AtomicU64::new(0),
            begun: AtomicU64::new(0),
            message: UnsafeCell::new(0),
            tail: AtomicU64::new(0),
            criers: std::array::from_fn(|_| AtomicU64::new(0)),
        });
        fn begin(all: &Broadcasts) {
            if (all.room.fetch_sub(1, ordering::room_take()) as i64) < 1 {
                all.room.fetch_add(1, Ordering::Relaxed);
                return;
            }
            let ticket = all.tries.fetch_add(1, ordering::ticket_take()) + 1;
            if all.busy.fetch_add(1, ordering::ticket_take()) != 0 {
                all.busy.fetch_sub(1, Ordering::Relaxed);
                all.room.fetch_add(1, Ordering::Relaxed);
                return;
            }
            // SAFETY: whoever has the number alone uses its message.
            all.message.with_mut(|message| unsafe { *message = ticket + 10 });
            all.left.store(1, Ordering::Relaxed);
            all.begun.store(ticket, ordering::freed_store());
            let position = all.tail.fetch_add(1, ordering::ticket_take());
            all.criers[position as usize].store(ticket, Ordering::Relaxed);
        }
        let spawn = |run: fn(&Broadcasts)| {
            let broadcasts = Arc::clone(&broadcasts);
            loom::thread::spawn(move || run(&broadcasts))
        };
        let threads = [
            spawn(begin),
            spawn(begin),
            spawn(|all| {
                // Relaxed: criers carry no order.
                let ticket = all.criers[0].load(Ordering::Relaxed);
                let is_told = all.begun.load(ordering::freed_load()) == ticket;
                if ticket != 0 && is_told {
                    // SAFETY: the broadcast has the number until this shard is done.
                    assert_eq!(all.message.with(|message| unsafe { *message }), ticket + 10);
                    if all.left.fetch_sub(1, ordering::ticket_take()) == 1 {
                        all.busy.fetch_sub(1, ordering::room_give());
                        all.room.fetch_add(1, ordering::room_give());
                    }
                }
            }),
        ];
        for thread in threads {
            thread.join().unwrap();
        }
        REUSED.fetch_or(broadcasts.tail.load(Ordering::Relaxed) == 2, std::sync::atomic::Ordering::Relaxed);
    });
    assert!(REUSED.load(std::sync::atomic::Ordering::Relaxed), "no interleaving used the number twice");
}

/// A mailbox of two slots, of which the first is read and not told of: what its reader puts back without asking for room, and who takes
/// a ticket behind that, overwrite what was read.
#[test]
fn a_letter_that_is_put_back_overwrites_what_was_read() {
    static PASSED: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);
    explore(|| {
        struct Mailbox {
            room: AtomicU64,
            tail: AtomicU64,
            tags: [AtomicU64; 2],
            slots: [UnsafeCell<u64>; 2],
        }
        let mailbox = Arc::new(Mailbox {
            room: AtomicU64::new(1),
            tail: AtomicU64::new(1),
            tags: [AtomicU64::new(1), AtomicU64::new(0)],
            slots: [UnsafeCell::new(10), UnsafeCell::new(0)],
        });
        fn write(mailbox: &Mailbox, ticket: Ordering) -> u64 {
            let position = mailbox.tail.fetch_add(1, ticket);
            // SAFETY: the place is this writer's, as the ticket says.
            mailbox.slots[position as usize % 2].with_mut(|slot| unsafe { *slot = position + 10 });
            mailbox.tags[position as usize % 2].store(1 + position, ordering::tag_store());
            position
        }
        let sender = {
            let mailbox = Arc::clone(&mailbox);
            loom::thread::spawn(move || {
                if (mailbox.room.fetch_sub(1, ordering::room_take()) as i64) < 1 {
                    mailbox.room.fetch_add(1, Ordering::Relaxed);
                } else {
                    PASSED.fetch_or(write(&mailbox, ordering::place_take()) == 2, std::sync::atomic::Ordering::Relaxed);
                }
            })
        };
        // The reader.
        assert_eq!(mailbox.tags[0].load(ordering::tag_load()), 1);
        // SAFETY: the slot is the reader's, as its tag says.
        assert_eq!(mailbox.slots[0].with(|slot| unsafe { *slot }), 10);
        mailbox.room.fetch_sub(1, Ordering::Relaxed);
        write(&mailbox, ordering::ticket_take());
        mailbox.tail.fetch_add(0, ordering::read_tell());
        mailbox.room.fetch_add(1, ordering::room_give());
        sender.join().unwrap();
    });
    assert!(PASSED.load(std::sync::atomic::Ordering::Relaxed), "no interleaving used the slot twice");
}

/// A mailbox of two slots with a letter in one: its shard takes that, tells of it and sends to itself, without any order; who takes a ticket
/// behind that, in room that was there before, overwrites what was read.
#[test]
fn a_letter_to_the_own_shard_carries_on_what_was_told() {
    static PASSED: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);
    explore(|| {
        struct Mailbox {
            room: AtomicU64,
            tail: AtomicU64,
            tags: [AtomicU64; 2],
            slots: [UnsafeCell<u64>; 2],
        }
        let mailbox = Arc::new(Mailbox {
            room: AtomicU64::new(1),
            tail: AtomicU64::new(1),
            tags: [AtomicU64::new(1), AtomicU64::new(0)],
            slots: [UnsafeCell::new(10), UnsafeCell::new(0)],
        });
        fn send(mailbox: &Mailbox, take: Ordering, ticket: Ordering) -> Option<u64> {
            if (mailbox.room.fetch_sub(1, take) as i64) < 1 {
                mailbox.room.fetch_add(1, Ordering::Relaxed);
                return None;
            }
            let position = mailbox.tail.fetch_add(1, ticket);
            // SAFETY: the place is this writer's, as room and ticket say.
            mailbox.slots[position as usize % 2].with_mut(|slot| unsafe { *slot = position + 10 });
            mailbox.tags[position as usize % 2].store(1 + position, ordering::tag_store());
            Some(position)
        }
        let sender = {
            let mailbox = Arc::clone(&mailbox);
            loom::thread::spawn(move || send(&mailbox, ordering::room_take(), ordering::place_take()))
        };
        // The shard.
        assert_eq!(mailbox.tags[0].load(ordering::tag_load()), 1);
        // SAFETY: the slot is the reader's, as its tag says.
        assert_eq!(mailbox.slots[0].with(|slot| unsafe { *slot }), 10);
        mailbox.tail.fetch_add(0, ordering::read_tell());
        mailbox.room.fetch_add(1, ordering::room_give());
        let own = send(&mailbox, Ordering::Relaxed, Ordering::Relaxed);
        let other = sender.join().unwrap();
        PASSED.fetch_or((own, other) == (Some(1), Some(2)), std::sync::atomic::Ordering::Relaxed);
    });
    assert!(PASSED.load(std::sync::atomic::Ordering::Relaxed), "no interleaving used the slot twice");
}
