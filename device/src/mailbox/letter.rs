//! From a handler to a mailbox: what is sent is written into the buffer of the handler's lane, and goes when the handler has succeeded.
//!
//! All of it runs divergent, as the handler does: no collective, no panic, and nothing that waits for anybody. Lanes that send at
//! the same time do it side by side.

use tourbillon_shared::broadcast::BROADCAST_KIND;
use tourbillon_shared::frame::{FRAME_SLOTS_MAX, payload_start, slots_for};
use tourbillon_shared::geometry::KernelArguments;
use tourbillon_shared::header::{Arrival, Flags, HEADER_WORDS, Header, ReturnAddress};
use tourbillon_shared::hlc;
use tourbillon_shared::mailbox::{
    HOPS_MAX, LETTER_FATE, LETTER_KIND, LETTER_SHARD, LETTERS_MAX, LetterHint, MailboxState, OUTGOING_LETTER_WORDS,
    SENDER_WORDS, Sender, letter_fate, waiting_bucket,
};
use tourbillon_shared::mutant;
use tourbillon_shared::outbox::Mail;
use tourbillon_shared::position::RingShape;
use tourbillon_shared::slot::{CHUNKS_PER_SLOT, Chunk, DATA_WORDS_PER_CHUNK, DATA_WORDS_PER_SLOT, Slot};
use tourbillon_shared::supervision::is_event;
use tourbillon_shared::telemetry::Counter;
use tourbillon_shared::virtual_actors::kind_of;

use super::again::GOING_ON;
use super::broadcast::{self, Begins};
use super::kept;
use super::notes::{note_carried, note_handed_on, note_lent};
use super::outgoing::{Outgoing, OutgoingOf, SHAPE};
use super::post::Post;
use super::{again, overflow_of, ring_of, shard_of, state_of, take_room, take_ticket};
use crate::arch::Arch;
use crate::call::Outcome;
use crate::options::physical_now;
use crate::stats::Stats;
use crate::words::{Staged, Words};

/// What stands in [`LETTER_KIND`] of a letter that hands on its message: no kind.
const HANDED_ON: u32 = u32::MAX;

/// Writes letter `index` of a handler.
///
/// # Safety
/// `outgoing` is what its runner gave the handler; the bytes fit into a frame with the extensions that the letter has.
#[inline(never)]
pub(crate) unsafe fn store(outgoing: OutgoingOf, index: u32, post: &Post, key: u64, bytes: &[u8]) {
    // SAFETY: the caller vouches for the desk.
    let desk = unsafe { &*outgoing.desk };
    if index >= LETTERS_MAX || desk.letters == 0 {
        return;
    }
    let letter = Outgoing::at(desk, outgoing.near, outgoing.lane, index);
    let mut flags = Flags(0);
    if post.deadline != 0 {
        flags = flags.with(Flags::DEADLINE);
    }
    flags = flags.with(if post.answer_as.is_some() { Flags::SENDER } else { Flags::TELL });
    let span = slots_for(flags.extension_words(), bytes.len());
    let is_read = post.answer_as.is_some() || post.hands_on;
    let is_as_long_as_itself = !is_read || mutant!("letters_without_room_for_replies");
    let span = if is_as_long_as_itself { span } else { span.max(post.reply_slots) };
    let answer_bytes = if post.goes_on { LetterHint::GOES_ON } else { post.answer_bytes };
    let hint = LetterHint { answer_bytes, is_answer: post.is_order }.encode();
    let header = Header {
        key: post.key,
        kind: post.kind,
        message: post.message,
        hops: 0,
        length: bytes.len() as u16,
        flags: Flags::new(span, flags.0),
        hint,
        hlc: 0,
    };
    // SAFETY: the letter is this lane's, and has room for a frame.
    unsafe {
        let [a, b, c, d, e, f, g, h] = header.encode();
        letter.set_four::<0>([a, b, c, d]);
        letter.set_four::<4>([e, f, g, h]);
        let mut at = HEADER_WORDS;
        // The first slot is sent as it is: what the letter leaves of it is zero.
        letter.set_four::<HEADER_WORDS>([0; 4]);
        if post.deadline != 0 {
            letter.set(at, post.deadline as u32);
            letter.set(at.wrapping_add(1), (post.deadline >> 32) as u32);
            at = at.wrapping_add(2);
        }
        if let Some((message, kind)) = post.answer_as {
            // The kind word is that of the frame, which is known when the letter is sent.
            let sender = Sender { key, kind, message, token: post.token }.encode();
            let mut i = 0;
            while i < SENDER_WORDS {
                letter.set(at.wrapping_add(i), *sender.get_unchecked(i));
                i = i.wrapping_add(1);
            }
            at = at.wrapping_add(SENDER_WORDS);
        }
        write_bytes(letter, at, bytes);
        let kind = post.answer_as.map_or(0, |(_, kind)| kind.into());
        let kind = if post.goes_on { GOING_ON } else { kind };
        letter.set(LETTER_KIND, if post.hands_on { HANDED_ON } else { kind });
    }
}

/// Writes bytes into a letter's words from `first` on.
///
/// # Safety
/// The letter is the calling lane's, and has room for them.
#[inline(always)]
pub(super) unsafe fn write_bytes(letter: Outgoing, first: usize, bytes: &[u8]) {
    let (source, words) = (bytes.as_ptr(), bytes.len() / 4);
    let mut word = 0;
    // A GPU reads a word byte by byte where it may not be aligned; most messages are.
    let is_aligned = source.cast::<u32>().is_aligned();
    // SAFETY: `word` counts whole words of the bytes, `byte` what is left of them; the caller vouches for the letter.
    unsafe {
        while word < words {
            let from = source.wrapping_add(word.wrapping_mul(4)).cast::<u32>();
            let value = if is_aligned { from.read() } else { from.read_unaligned() };
            letter.set(first.wrapping_add(word), value);
            word = word.wrapping_add(1);
        }
        if !bytes.len().is_multiple_of(4) {
            let mut last = 0u32;
            let mut byte = words.wrapping_mul(4);
            while byte < bytes.len() {
                last |= u32::from(source.wrapping_add(byte).read()).wrapping_shl((byte % 4 * 8) as u32);
                byte = byte.wrapping_add(1);
            }
            letter.set(first.wrapping_add(words), last);
        }
    }
}

/// Reserves room for the first `count` letters of a handler whose message is `header`, in `staged`: [`Outcome::Done`], or how the message
/// is to fail, and then nothing is reserved.
///
/// # Safety
/// `outgoing` is what its runner gave the handler, which wrote so many letters, and `mail` that of the warp.
#[cold]
#[inline(never)]
pub(crate) unsafe fn reserve<A: Arch>(
    outgoing: OutgoingOf,
    mail: *const Mail,
    count: u32,
    header: &Header,
    staged: &Staged<A>,
) -> Outcome {
    // SAFETY: the caller vouches for both; the arguments live as long as the kernel runs.
    let (desk, arguments) = unsafe { (&*outgoing.desk, &*((*mail).arguments as *const KernelArguments)) };
    let at = |index| Outgoing::at(desk, outgoing.near, outgoing.lane, index);
    if desk.letters == 0 {
        return Outcome::LettersUndeclared;
    }
    if count > LETTERS_MAX && !mutant!("letters_uncounted") {
        return Outcome::TooManyLetters;
    }
    let own = state_of(arguments, desk.shard);
    let (mut index, mut handed_on) = (0, false);
    // An event has a slot of the share for answers, which what its handler asks may take.
    let is_event = LetterHint::decode(header.hint).is_some_and(|hint| is_event(hint).is_some());
    let (lent, mut left) = (u64::from(is_event), u64::from(is_event));
    // They have no other place than the mailbox, which the others may fill.
    // SAFETY: the caller vouches for the letters and for the desk, and so for the shard.
    if !unsafe { again::reserve_going::<A>(outgoing.desk, arguments, own, header, count, &at) } {
        return Outcome::MailboxFull;
    }
    while index < count {
        let letter = at(index);
        // SAFETY: the letter is this lane's.
        let outcome = unsafe {
            if letter.word(LETTER_KIND) == HANDED_ON {
                let was_handed_on = core::mem::replace(&mut handed_on, true);
                if was_handed_on { Outcome::CannotForward } else { hand_on(letter, header, staged) }
            } else {
                Outcome::Done
            }
        };
        let outcome = match outcome {
            // SAFETY: the letter is this lane's.
            Outcome::Done if unsafe { letter.word(LETTER_KIND) } == GOING_ON => Outcome::Done,
            // SAFETY: the caller vouches for the desk, and so for the shard.
            Outcome::Done => unsafe { reserve_one::<A>(arguments, own, letter, header, &mut left) },
            other => other,
        };
        if outcome != Outcome::Done {
            if outcome == Outcome::MailboxFull {
                // SAFETY: the state of the shard whose turn the warp holds.
                unsafe { A::count_pool(&raw mut (*own).refused, 1) };
            }
            // SAFETY: as above; room was reserved for them.
            unsafe { again::give_up_going::<A>(own, count, &at) };
            while index != 0 && !mutant!("letters_kept_after_refusal") {
                index = index.wrapping_sub(1);
                // SAFETY: as above; room was reserved for the letter.
                unsafe { give_up::<A>(arguments, own, at(index)) };
            }
            if left != lent {
                // What was given back is the event's as before.
                // SAFETY: as above.
                unsafe { A::add_pool(&raw mut (*own).answers, left.wrapping_sub(lent)) };
            }
            return outcome;
        }
        index = index.wrapping_add(1);
    }
    if left != lent {
        // SAFETY: the desk is that of the warp, and the lane the calling one.
        unsafe { note_lent(outgoing.desk, outgoing.lane) };
    }
    Outcome::Done
}

/// Makes a letter the one that answers the message `header` in place of its handler.
///
/// # Safety
/// The letter is the calling lane's, as is the staged frame.
#[inline(always)]
unsafe fn hand_on<A: Arch>(letter: Outgoing, header: &Header, staged: &Staged<A>) -> Outcome {
    let flags = header.flags;
    if flags.0 & (Flags::MESSAGE_ID | Flags::IF_VERSION | Flags::ARENA) != 0 {
        return Outcome::CannotForward;
    }
    if header.hops >= HOPS_MAX && !mutant!("hops_unbounded") {
        return Outcome::TooManyHops;
    }
    // SAFETY: the caller vouches for the letter.
    unsafe {
        let length = letter.length();
        let question = flags.has(Flags::SENDER) && LetterHint::decode(header.hint).is_some();
        let extensions = if question { Flags::SENDER } else { 0 };
        let span = slots_for(Flags(extensions).extension_words(), length).max(letter.flags().span());
        if span > FRAME_SLOTS_MAX as u32 {
            return Outcome::CannotForward;
        }
        if question {
            // Behind the header comes who asks; the payload moves, its last word first.
            let words = length.div_ceil(4);
            let mut word = words;
            while word != 0 {
                word = word.wrapping_sub(1);
                letter.set(
                    HEADER_WORDS.wrapping_add(SENDER_WORDS).wrapping_add(word),
                    letter.word(HEADER_WORDS.wrapping_add(word)),
                );
            }
            let from = payload_start(flags).wrapping_sub(SENDER_WORDS as u32);
            let mut word = 0;
            while word < SENDER_WORDS {
                letter.set(HEADER_WORDS.wrapping_add(word), staged.word(from.wrapping_add(word as u32)));
                word = word.wrapping_add(1);
            }
        }
        let hint = match LetterHint::decode(header.hint) {
            Some(hint) => LetterHint { is_answer: false, ..hint }.encode(),
            None if mutant!("origin_lost_by_second_hand") && header.hops != 0 => LetterHint::default().encode(),
            None => {
                let address = ReturnAddress::decode(header.hint);
                let reply = if address.span == 0 { flags.span() as u8 } else { address.span };
                ReturnAddress { span: reply, is_alone: false, ..address }.encode()
            }
        };
        let role = extensions | (flags.0 & Flags::TELL);
        letter.set(2, letter.word(2) | (u32::from(header.hops).wrapping_add(1)).wrapping_shl(24));
        letter.set(SHAPE, length as u32 | u32::from(Flags::new(span, role).0) << 16);
        letter.set(4, hint as u32);
        letter.set(5, (hint >> 32) as u32);
    }
    Outcome::Done
}

/// Reserves room for one letter, and for its answer, for which `lent` slots of it are there already, at most one.
///
/// # Safety
/// The letter is the calling lane's; `own` is the state of the desk's shard.
#[inline(always)]
unsafe fn reserve_one<A: Arch>(
    arguments: &KernelArguments,
    own: *mut MailboxState,
    letter: Outgoing,
    header: &Header,
    lent: &mut u64,
) -> Outcome {
    let before_lent = *lent;
    // SAFETY: the caller vouches for both states and the letter.
    unsafe {
        if letter.word(2) as u16 == BROADCAST_KIND {
            let Some(number) = broadcast::take_number::<A>(arguments) else { return Outcome::TooManyBroadcasts };
            letter.set(LETTER_SHARD, number);
            letter.set(LETTER_FATE, letter_fate::BROADCAST);
            return Outcome::Done;
        }
        if kind_of(letter.word(2) as u16) == 0 {
            // No kind: in an overflow it says that a letter is sent.
            return Outcome::LettersUndeclared;
        }
        let key = u64::from(letter.word(0)) | u64::from(letter.word(1)) << 32;
        let flags = letter.flags();
        let kind = letter.word(LETTER_KIND);
        let asks = is_question(kind);
        if asks {
            if kind != u32::from(kind_of(header.kind)) {
                return Outcome::LettersUndeclared;
            }
            // Who asks is known by its whole kind word.
            let at = payload_start(flags).wrapping_sub(SENDER_WORDS as u32) as usize;
            letter.set(at.wrapping_add(2), (letter.word(at.wrapping_add(2)) & !0xffff) | u32::from(header.kind));
            // One that is asked for takes more than is lent.
            let slots = u64::from(answer_slots(letter)).wrapping_sub(*lent);
            *lent = 0;
            let before = A::add_pool(&raw mut (*own).answers, slots.wrapping_neg());
            if (before as i64) < slots as i64 && !mutant!("questions_unbounded") {
                A::add_pool(&raw mut (*own).answers, slots);
                *lent = before_lent;
                return Outcome::TooManyQuestions;
            }
        }
        let shard = shard_of(arguments, letter.word(2) as u16, key);
        letter.set(LETTER_SHARD, shard);
        let waiting = &raw mut (*own).waiting;
        let waiting = waiting.cast::<u64>().wrapping_add(waiting_bucket(shard));
        let slots = u64::from(flags.span());
        if A::load_pool(waiting) == 0 || mutant!("letters_pass_the_overflow") {
            let target = state_of(arguments, shard);
            if take_room::<A>(target, slots, target == own) {
                letter.set(LETTER_FATE, letter_fate::DIRECT);
                return Outcome::Done;
            }
        }
        let before = A::add_pool(&raw mut (*own).overflow_room, slots.wrapping_neg());
        if before as i64 >= slots as i64 {
            A::add_pool(waiting, 1);
            letter.set(LETTER_FATE, letter_fate::OVERFLOW);
            return Outcome::Done;
        }
        A::add_pool(&raw mut (*own).overflow_room, slots);
        if asks {
            let lent_here = before_lent.wrapping_sub(*lent);
            A::add_pool(&raw mut (*own).answers, u64::from(answer_slots(letter)).wrapping_sub(lent_here));
            *lent = before_lent;
        }
        Outcome::MailboxFull
    }
}

/// Whether a letter with this word in [`LETTER_KIND`] asks anew.
#[inline(always)]
const fn is_question(kind: u32) -> bool {
    kind != 0 && kind != HANDED_ON && kind != GOING_ON
}

/// Slots of the answer to a question.
///
/// # Safety
/// The letter is the calling lane's, and a question of this actor.
#[inline(always)]
unsafe fn answer_slots(letter: Outgoing) -> u32 {
    // SAFETY: the caller vouches for the letter.
    let hint = unsafe { u64::from(letter.word(4)) | u64::from(letter.word(5)) << 32 };
    slots_for(0, LetterHint::decode(hint).unwrap_or_default().answer_bytes as usize)
}

/// Takes back what was reserved for a letter.
///
/// # Safety
/// As for [`reserve_one`], which reserved it.
#[cold]
#[inline(always)]
unsafe fn give_up<A: Arch>(arguments: &KernelArguments, own: *mut MailboxState, letter: Outgoing) {
    // SAFETY: the caller vouches for the letter and for what was reserved.
    unsafe {
        let (shard, slots) = (letter.word(LETTER_SHARD), u64::from(letter.flags().span()));
        if letter.word(LETTER_FATE) == letter_fate::BROADCAST {
            return broadcast::give_number::<A>(arguments, shard);
        }
        if letter.word(LETTER_KIND) == GOING_ON {
            return;
        }
        if letter.word(LETTER_FATE) == letter_fate::DIRECT {
            A::add_relaxed_gpu(&raw mut (*state_of(arguments, shard)).room, slots);
        } else {
            A::add_pool(&raw mut (*own).overflow_room, slots);
            let waiting = (&raw mut (*own).waiting).cast::<u64>().wrapping_add(waiting_bucket(shard));
            A::add_pool(waiting, 1u64.wrapping_neg());
        }
        if is_question(letter.word(LETTER_KIND)) {
            A::add_pool(&raw mut (*own).answers, answer_slots(letter).into());
        }
    }
}

/// Sends the letters for which room is reserved, in the order in which they were written.
///
/// # Safety
/// As for [`reserve`], which returned [`Outcome::Done`]; `frame` is the staged frame, of `span` slots, whose handler wrote them.
#[cold]
#[inline(never)]
pub(crate) unsafe fn send<A: Arch>(
    outgoing: OutgoingOf,
    mail: *const Mail,
    count: u32,
    event_hlc: u64,
    (frame, span): (*const Slot, u32),
) {
    let OutgoingOf { desk: of_warp, near, lane } = outgoing;
    // SAFETY: as in `reserve`.
    let (desk, mail, arguments) = unsafe { (&*of_warp, &*mail, &*((*mail).arguments as *const KernelArguments)) };
    let own = state_of(arguments, desk.shard);
    let (mut index, mut overflowed) = (0, 0u64);
    let hlc_delta = hlc_delta_of::<A>(arguments, event_hlc);
    while index < count {
        let letter = Outgoing::at(desk, near, lane, index);
        // SAFETY: the letter is this lane's, and has room where its fate says.
        unsafe {
            let slots = u64::from(letter.flags().span());
            if letter.word(LETTER_FATE) == letter_fate::BROADCAST {
                let begins = Begins {
                    number: letter.word(LETTER_SHARD),
                    root: desk.shard,
                    kind: letter.word(0),
                    message: (letter.word(2) >> 16) as u8,
                    length: letter.length() as u32,
                };
                broadcast::begin::<A>(arguments, &begins, event_hlc, |word| {
                    letter.word(HEADER_WORDS.wrapping_add(word))
                });
            } else if letter.word(LETTER_FATE) != letter_fate::OVERFLOW {
                let shard = letter.word(LETTER_SHARD);
                let target = state_of(arguments, shard);
                // In room that its reader may not have told of yet; and what leads to an answer leads to a place in the room for answers, of
                // which nobody tells.
                let is_untold = letter.word(LETTER_KIND) == GOING_ON || letter.flags().has(Flags::SENDER);
                let position = if is_untold {
                    A::take_ticket_gpu(&raw mut (*target).tail, slots)
                } else {
                    take_ticket::<A>(target, slots, target == own)
                };
                let (ring, shape) = (ring_of(arguments, shard), arguments.geometry.mailbox_shape());
                let kept = kept::place_of(outgoing, shard, position, slots);
                write::<A, false>(ring, shape, position, letter, hlc_delta, kept);
            } else {
                let position = A::add_pool(&raw mut (*own).overflow_tail, slots);
                let shape = RingShape::from_log2(arguments.geometry.overflow_log2);
                let ring = overflow_of(arguments, desk.shard);
                write::<A, true>(ring, shape, position, letter, hlc_delta, core::ptr::null_mut());
                A::store_cta(desk.overflowing as *mut u64, 1);
                overflowed = overflowed.wrapping_add(1);
            }
            if letter.word(LETTER_FATE) == letter_fate::CARRIED {
                note_carried(of_warp, lane);
            }
            let is_forgotten =
                mutant!("overflowed_hand_on_answered") && letter.word(LETTER_FATE) == letter_fate::OVERFLOW;
            if letter.word(LETTER_KIND) == HANDED_ON && !is_forgotten {
                note_handed_on(of_warp, lane, frame, span);
            }
        }
        index = index.wrapping_add(1);
    }
    // SAFETY: the state of the shard whose turn the warp holds; it is for its warps alone.
    unsafe {
        A::count_pool(&raw mut (*own).sent, count.into());
        if overflowed != 0 {
            A::count_pool(&raw mut (*own).overflowed, overflowed);
        }
    }
    let stats = Stats::at(mail.stats);
    stats.add::<A>(Counter::Letters, count.into());
    if overflowed != 0 {
        stats.add::<A>(Counter::LettersOverflowed, overflowed);
    }
}

/// How a sender's timestamp stands to the time.
#[inline(always)]
pub(crate) fn hlc_delta_of<A: Arch>(arguments: &KernelArguments, event_hlc: u64) -> i32 {
    hlc::delta(event_hlc, physical_now::<A>(arguments))
}

/// Writes the slots of a letter: nothing here can stop or fail. The first comes last, with the time in it, for with that the letter has
/// come. An overflow is `OWN`: only this shard's warps read it, under its turn. The first slot goes to `kept` as well, if that is a place.
///
/// # Safety
/// The slots of `ring` from `position` on are this letter's, which is the calling lane's, as is the slot at `kept`.
#[inline(always)]
unsafe fn write<A: Arch, const OWN: bool>(
    ring: *mut Slot,
    shape: RingShape,
    position: u64,
    letter: Outgoing,
    hlc_delta: i32,
    kept: *mut Chunk,
) {
    // SAFETY: the caller vouches for the ring and the letter.
    unsafe {
        let end = (payload_start(letter.flags()) as usize).wrapping_add(letter.length().div_ceil(4));
        // Behind its end a letter's words are those of an earlier one.
        let word = |word| if word < end { letter.word(word) } else { 0 };
        let place = |at: u64| ring.wrapping_add(shape.index(at) as usize).cast::<Chunk>();
        let put = |to: *mut Chunk, value| if OWN { to.write(value) } else { A::store_chunk_gpu(to, value) };
        let mut slot = letter.flags().span();
        while slot > 1 {
            slot = slot.wrapping_sub(1);
            let at = position.wrapping_add(slot.into());
            let mut chunk = 0;
            while chunk < CHUNKS_PER_SLOT {
                let first =
                    (slot as usize).wrapping_mul(DATA_WORDS_PER_SLOT).wrapping_add(chunk * DATA_WORDS_PER_CHUNK);
                let data = [word(first), word(first + 1), word(first + 2)];
                put(place(at).wrapping_add(chunk), Chunk::new(data, shape.lap(at)));
                chunk = chunk.wrapping_add(1);
            }
        }
        let mut words = letter.near_words();
        let mut at = 0;
        while at < words.len() {
            let pinned =
                A::pin_u64(u64::from(*words.get_unchecked(at)) | u64::from(*words.get_unchecked(at + 1)) << 32);
            (*words.get_unchecked_mut(at), *words.get_unchecked_mut(at + 1)) = (pinned as u32, (pinned >> 32) as u32);
            at += 2;
        }
        // All that is needed is there before the time is read, and nothing is between the stores: the letter has come with the last of them.
        let (to, lap) = (A::pin_u64(place(position) as u64) as *mut Chunk, shape.lap(position));
        let lap = A::pin_u64(lap.into()) as u32;
        let arrival = Arrival { device_ns: A::now_ns() as u32, hlc_delta }.encode();
        (words[ARRIVAL_WORD], words[ARRIVAL_WORD + 1]) = (arrival as u32, (arrival >> 32) as u32);
        let [a, b, c, d, e, f, g, h, i, j, k, l] = words;
        let chunks = [[a, b, c], [d, e, f], [g, h, i], [j, k, l]].map(|data| Chunk::new(data, lap));
        let mut chunk = 0;
        while chunk < CHUNKS_PER_SLOT {
            put(to.wrapping_add(chunk), *chunks.get_unchecked(chunk));
            chunk += 1;
        }
        if !kept.is_null() {
            let mut chunk = 0;
            while chunk < CHUNKS_PER_SLOT {
                kept.wrapping_add(chunk).write(*chunks.get_unchecked(chunk));
                chunk += 1;
            }
        }
    }
}

const _: () = assert!(FRAME_SLOTS_MAX * DATA_WORDS_PER_SLOT <= OUTGOING_LETTER_WORDS);
/// The first of the two words of the header that the timestamp takes.
const ARRIVAL_WORD: usize = 6;
const _: () = assert!(HEADER_WORDS == 8 && CHUNKS_PER_SLOT == 4 && DATA_WORDS_PER_CHUNK == 3);
