//! Orders: what a parent wants of a child, carried out before any later message of the child.

use tourbillon_shared::block::WarpScratch;
use tourbillon_shared::error::FailureCode;
use tourbillon_shared::frame::payload_start;
use tourbillon_shared::geometry::EntryHeader;
use tourbillon_shared::header::{Flags, HEADER_WORDS, Header};
use tourbillon_shared::mailbox::LetterHint;
use tourbillon_shared::mutant;
use tourbillon_shared::slot::Slot;
use tourbillon_shared::supervision::{Bond, Happened, OpenOrder, Order, Refusal, bond, is_order, watch};
use tourbillon_shared::telemetry::Counter;
use tourbillon_shared::virtual_actors::kind_of;

use super::bond::Bonded;
use super::event::{Who, send};
use super::{Ended, ended_as};
use crate::arch::Arch;
use crate::frames::header_of;
use crate::handler::run_bare;
use crate::mailbox::Received;
use crate::stats::Stats;
use crate::supervise::{ChildOrder, Verdict};
use crate::system::System;
use crate::virtual_actors::failure_in;
use crate::words::{Staged, Words};

/// Data words of a header: kind and message, flags and length.
const ADDRESSEE: u32 = 2;
const SHAPE: u32 = 3;

/// Carries out the staged order of `header`, or lets the supervisor that it is for do so, and answers it.
///
/// # Safety
/// As for [`run_frame`](crate::handler::run_frame); the frame is an order.
#[cold]
#[inline(never)]
pub(super) unsafe fn obey<A: Arch, S: System>(
    stats: Stats,
    frame: *mut Slot,
    header: Header,
    entry: *mut EntryHeader,
    event_hlc: u64,
    scratch: *mut WarpScratch,
) {
    // SAFETY: the caller vouches for the frame.
    let Some(received) = (unsafe { Received::of::<A>(frame) }) else { return };
    let sender = received.sender();
    let parent = Who { key: sender.key, kind: sender.kind, message: sender.message, token: sender.token };
    let kind = kind_of(header.kind);
    // SAFETY: the entry is the actor's, if it is one; what is made of another is not looked at.
    let actor = unsafe { Bonded::new::<S>(entry, kind, header.key) };
    let refuse = |why: Refusal, room: u32| {
        // SAFETY: the caller vouches for the scratch; the order took room for its answer.
        unsafe { send::<A>(stats, scratch, &actor, &parent, (Happened::Refused, why as u8, 0), room, event_hlc) };
    };
    // What the order took for its answer, and perhaps for one more event.
    let took = LetterHint::decode(header.hint).and_then(is_order).unwrap_or(1);
    if !S::is_supervised(kind) {
        return refuse(Refusal::Undeclared, took);
    }
    if failure_in(entry).is_some() {
        return refuse(Refusal::NoPlace, took);
    }
    let before = actor.bond();
    let is_parents = before.parent == parent.key && before.parent_kind == parent.kind && before.token == parent.token;
    let is_parents = (before.state == bond::CHILD && is_parents) || mutant!("orders_of_strangers");
    let Some(order) = Order::from_number(header.message.into()) else { return refuse(Refusal::NotYours, took) };
    let mut room = took;
    if order == Order::Start {
        if before.state == bond::CHILD {
            return refuse(Refusal::AlreadyChild, took);
        }
        // SAFETY: the frame is staged and the caller's; an order's payload has four words.
        let (says, error) = unsafe {
            let (words, start) = (Staged::<A>::new(frame), payload_start(header.flags));
            (words.word(start.wrapping_add(2)), words.word(start.wrapping_add(3)))
        };
        actor.set_bond(Bond {
            parent: parent.key,
            parent_kind: parent.kind,
            events_as: parent.message,
            state: bond::CHILD,
            token: parent.token,
            watch: (says >> 16) as u16,
            is_armed: 1,
            error,
            children: before.children,
            ..Bond::default()
        });
        // A slot stays with the child.
        room = took.wrapping_sub(1);
        if before.state == bond::FREE && mutant!("refused_children_counted") {
            stats.add::<A>(Counter::Supervised, 1);
        }
    } else {
        if !is_parents {
            return refuse(Refusal::NotYours, took);
        }
        if before.open != 0 && order != Order::GoOn {
            return refuse(Refusal::Busy, took);
        }
        if order == Order::GoOn {
            if before.is_armed == 0 {
                room = took.wrapping_sub(1);
            }
            // SAFETY: the caller vouches for the scratch; the order took room for its answer.
            unsafe {
                actor.set_bond(Bond { is_armed: 1, ..before });
                send::<A>(stats, scratch, &actor, &parent, (Happened::Obeyed, 0, 0), room, event_hlc);
                return actor.tell_failures::<A>(stats, scratch, event_hlc);
            }
        }
    }
    let open = OpenOrder { order: order as u8, room: room as u8, before: before.state };
    let is_supervisor = actor.bond().watch & watch::ORDERS_AS != 0;
    actor.set_bond(Bond { open: open.encode(), ..actor.bond() });
    if !is_supervisor {
        if order == Order::Start && before.state == bond::STOPPED {
            actor.wake();
        }
        if order == Order::Restart {
            // SAFETY: the caller vouches for the actor.
            unsafe { actor.begin_anew::<A, S>(stats, scratch) };
            stats.add::<A>(Counter::Restarts, 1);
        }
        // SAFETY: as above; the order is open.
        return unsafe { complete::<A, S>(&actor, stats, scratch, event_hlc) };
    }
    // SAFETY: the caller vouches for the frame, which becomes a message to the actor.
    unsafe {
        deliver::<A>(frame, header, order, &actor.bond());
        run_bare::<A, S>(stats, frame, header_of(&*frame), entry, event_hlc, scratch);
        match ended_as::<A>(frame) {
            Ended::Well(word) => judge::<A, S>(&actor, Verdict::from_word(word), stats, scratch, event_hlc),
            Ended::ForWantOfRoom => give_up::<A>(&actor, Refusal::NoRoom, stats, scratch, event_hlc),
            Ended::Badly { code, .. } => {
                give_up::<A>(&actor, Refusal::HandlerFailed, stats, scratch, event_hlc);
                if code == FailureCode::Panicked as u32 && actor.bond().state == bond::CHILD {
                    actor.fail::<A, S>(stats, scratch, code, event_hlc);
                }
            }
        }
    }
}

/// Makes the staged order the message that its actor has for orders. Its hint stays: so it is known what it was when its lane is lost.
///
/// # Safety
/// The frame is staged and the caller's, and is the order of `header`.
#[inline(always)]
unsafe fn deliver<A: Arch>(frame: *mut Slot, header: Header, order: Order, bond: &Bond) {
    let message = (bond.watch & watch::ORDERS_AS).wrapping_sub(1) as u8;
    // SAFETY: the caller vouches for the frame, which has two slots.
    unsafe {
        let mut words = Staged::<A>::new(frame);
        words.set_word(ADDRESSEE, u32::from(header.kind) | u32::from(message) << 16);
        let flags = Flags::new(header.flags.span(), 0);
        words.set_word(SHAPE, size_of::<ChildOrder>() as u32 | u32::from(flags.0) << 16);
        words.set_word(HEADER_WORDS as u32, order as u32);
        words.set_word(HEADER_WORDS as u32 + 1, bond.token);
    }
}

/// Acts on what an actor with children has said of an order, or of an event.
///
/// # Safety
/// As for [`Bonded::begin_anew`].
#[inline(never)]
pub(super) unsafe fn judge<A: Arch, S: System>(
    actor: &Bonded,
    verdict: Verdict,
    stats: Stats,
    scratch: *mut WarpScratch,
    event_hlc: u64,
) {
    let bond = actor.bond();
    // SAFETY: the caller vouches for all of it.
    unsafe {
        match verdict {
            Verdict::Done if bond.open != 0 => complete::<A, S>(actor, stats, scratch, event_hlc),
            Verdict::HasChildren if OpenOrder::decode(bond.open).order == Order::Start as u8 => {
                give_up::<A>(actor, Refusal::HasChildren, stats, scratch, event_hlc);
            }
            Verdict::Escalate if !mutant!("supervisors_do_not_escalate") => {
                // Its children have stopped: so the open order ends, and its failure comes behind the answer.
                if bond.open != 0 && !mutant!("escalation_leaves_the_order_open") {
                    complete::<A, S>(actor, stats, scratch, event_hlc);
                }
                if actor.bond().state == bond::CHILD {
                    actor.fail::<A, S>(stats, scratch, FailureCode::TooManyRestarts as u32, event_hlc);
                }
            }
            _ => {}
        }
    }
}

/// The open order is carried out: tells the parent.
///
/// # Safety
/// As for [`Bonded::begin_anew`]; an order is open.
#[inline(never)]
unsafe fn complete<A: Arch, S: System>(actor: &Bonded, stats: Stats, scratch: *mut WarpScratch, event_hlc: u64) {
    let (before, parent) = (actor.bond(), actor.parent());
    let open = OpenOrder::decode(before.open);
    let mut room = u32::from(open.room);
    actor.set_bond(Bond { open: 0, ..before });
    // SAFETY: the caller vouches for all of it; the order took room for its answer.
    unsafe {
        let what = match Order::from_number(open.order.into()) {
            Some(Order::Start) => {
                // One that refuses is none, and is asked again perhaps.
                if open.before == bond::FREE && !mutant!("refused_children_counted") {
                    stats.add::<A>(Counter::Supervised, 1);
                }
                Happened::Started
            }
            Some(Order::Stop) => {
                // It will tell of no failure any more.
                room = room.wrapping_add(u32::from(before.is_armed));
                actor.stop::<A, S>(stats, scratch, event_hlc);
                Happened::Stopped
            }
            _ => Happened::Obeyed,
        };
        send::<A>(stats, scratch, actor, &parent, (what, 0, 0), room, event_hlc);
    }
}

/// The open order is not carried out: tells the parent why.
///
/// # Safety
/// As for [`Bonded::begin_anew`]; an order is open.
#[inline(never)]
pub(super) unsafe fn give_up<A: Arch>(
    actor: &Bonded,
    why: Refusal,
    stats: Stats,
    scratch: *mut WarpScratch,
    event_hlc: u64,
) {
    let (before, parent) = (actor.bond(), actor.parent());
    let open = OpenOrder::decode(before.open);
    let mut room = u32::from(open.room);
    if open.order == Order::Start as u8 {
        // It is what it was: nobody's child.
        actor.set_bond(Bond { state: open.before, children: before.children, ..Bond::default() });
        // A failure that was told has taken the slot of an armed child.
        room = room.wrapping_add(if mutant!("room_given_back_twice") { 1 } else { before.is_armed.into() });
    } else {
        actor.set_bond(Bond { open: 0, ..before });
    }
    // SAFETY: the caller vouches for the scratch; the order took room for its answer.
    unsafe { send::<A>(stats, scratch, actor, &parent, (Happened::Refused, why as u8, 0), room, event_hlc) };
}
