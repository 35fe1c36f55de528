//! Notices: from a handler that posts them to the outboxes of clients.
//!
//! The protocol is in [`tourbillon_shared::outbox`]. A handler writes its notices into the buffer of its lane of the warp, in device
//! memory. When it has succeeded, and before its state is stored, room is reserved for all of them ([`reserve`]); that is the last
//! point at which its message may fail. Then the state is stored, and the notices are written into their outboxes
//! ([`send`]).
//!
//! All of that runs divergent, as the handler does: no collective, no panic, and nothing that waits for anybody. Only what one message
//! posts is in flight between reservation and slots, so nothing of it has to survive a relaunch.

use tourbillon_shared::block::WarpScratch;
use tourbillon_shared::frame::slots_for;
use tourbillon_shared::geometry::{KernelArguments, LaneAddresses};
use tourbillon_shared::header::Header;
use tourbillon_shared::host_actors::{Duty, decode_server, encode_server};
use tourbillon_shared::lane::LaneHeader;
use tourbillon_shared::mutant;
use tourbillon_shared::outbox::{
    Credit, LANES_OF_WARP_MAX, Mail, NOTICES_MAX, OutboxState, Outgoing, OutgoingNotice, Owner, Subscriber, fate,
    notice_header,
};
use tourbillon_shared::pool::LanePool;
use tourbillon_shared::position::RingShape;
use tourbillon_shared::slot::{Chunk, DATA_WORDS_PER_CHUNK, DATA_WORDS_PER_SLOT, Slot};
use tourbillon_shared::telemetry::{Counter, WarpStats};
use tourbillon_shared::virtual_actors::errand;

use crate::arch::Arch;
use crate::mailbox;
use crate::options::look_at_taken;
use crate::plain::Plain;
use crate::stats::Stats;

/// A message that an actor sends to a client without being asked, with [`Context::post`](crate::Context::post): plain data of up to a
/// frame's 352 bytes.
///
/// ```
/// use tourbillon_device::{Notice, Plain};
///
/// /// The price has changed.
/// #[repr(C)]
/// #[derive(Clone, Copy, Plain)]
/// struct Price {
///     cents: u64,
/// }
///
/// impl Notice for Price {
///     const NUMBER: u16 = 7;
/// }
/// ```
pub trait Notice: Plain {
    /// Tells notices apart: unique among those that one client subscribes to. Part of the protocol between programs, as the
    /// numbers of messages are.
    const NUMBER: u16;
}

/// What a warp's handlers need to post: for the scratch of warp `in_grid`.
pub fn mail_of(arguments: &KernelArguments, in_grid: u32) -> Mail {
    const BYTES_A_WARP: u64 = tourbillon_shared::outbox::LANES_OF_WARP_MAX as u64 * size_of::<Outgoing>() as u64;
    let before = u64::from(in_grid).wrapping_mul(BYTES_A_WARP);
    let buffers = arguments.memory.wrapping_add(arguments.layout.outgoing).wrapping_add(before);
    let stats = arguments.memory.wrapping_add(arguments.layout.stats) as *mut WarpStats;
    let lanes_before = u64::from(in_grid).wrapping_mul(LANES_OF_WARP_MAX.into());
    let pools = arguments.memory.wrapping_add(arguments.layout.lane_pools);
    let pools = pools.wrapping_add(lanes_before.wrapping_mul(size_of::<LanePool>() as u64));
    Mail {
        arguments: core::ptr::from_ref(arguments) as u64,
        outgoing: if arguments.geometry.outbox_log2 == 0 { 0 } else { buffers },
        stats: stats.wrapping_add(in_grid as usize) as u64,
        pools: if arguments.geometry.pool_pages == 0 { 0 } else { pools },
    }
}

/// Fills the mails, and clears the errands, of the warps `first`, `first + step` and so on of block `block`, whose scratches begin at `scratch`.
///
/// Out of line, for the kernel's entry has few registers to spare.
///
/// # Safety
/// Every warp of the block has a scratch there, and nobody uses their mails yet.
#[inline(never)]
pub(crate) unsafe fn fill_mails(
    arguments: &KernelArguments,
    block: u32,
    scratch: *mut WarpScratch,
    first: u32,
    step: u32,
) {
    let warps = arguments.geometry.warps_per_block;
    let mut warp = first;
    while warp < warps {
        let mail = mail_of(arguments, block.wrapping_mul(warps).wrapping_add(warp));
        // SAFETY: the caller vouches for the scratch.
        unsafe {
            let scratch = scratch.wrapping_add(warp as usize);
            (&raw mut (*scratch).mail).write(mail);
            (*scratch).desk.letters = mailbox::buffer(arguments, block.wrapping_mul(warps).wrapping_add(warp));
            (&raw mut (*scratch).errand).write(errand::NONE);
            ((*scratch).pool_open, (*scratch).pool_short) = (0, 0);
        }
        warp = warp.wrapping_add(step);
    }
}

/// Notice `index` of the handler that lane `lane` of the warp runs; null where the engine has no outboxes. The index is below
/// [`NOTICES_MAX`].
#[inline(always)]
fn notice_at(mail: &Mail, lane: u32, index: u32) -> *mut OutgoingNotice {
    if mail.outgoing == 0 {
        return core::ptr::null_mut();
    }
    (mail.outgoing as *mut Outgoing).wrapping_add(lane as usize).cast::<OutgoingNotice>().wrapping_add(index as usize)
}

/// Writes notice `index` of a handler into the buffer of its lane.
///
/// # Safety
/// `mail` is that of the warp, `lane` the calling lane; `bytes` are at most those of a frame.
#[inline(never)]
pub unsafe fn store(mail: *const Mail, lane: u32, index: u32, subscriber: Subscriber, number: u16, bytes: &[u8]) {
    if index >= NOTICES_MAX {
        return;
    }
    // SAFETY: the caller vouches for the mail.
    let notice = notice_at(unsafe { &*mail }, lane, index);
    if notice.is_null() {
        return;
    }
    // SAFETY: the buffer is this lane's alone, and has room for a frame's payload.
    unsafe {
        (*notice).subscriber = subscriber;
        (*notice).number = number;
        (*notice).length = bytes.len() as u16;
        let payload = (&raw mut (*notice).payload).cast::<u32>();
        let source = bytes.as_ptr();
        let words = bytes.len() / 4;
        let mut word = 0;
        while word < words {
            payload.wrapping_add(word).write(source.wrapping_add(word.wrapping_mul(4)).cast::<u32>().read_unaligned());
            word = word.wrapping_add(1);
        }
        if !bytes.len().is_multiple_of(4) {
            let mut last = 0u32;
            let mut byte = words.wrapping_mul(4);
            while byte < bytes.len() {
                last |= u32::from(source.wrapping_add(byte).read()).wrapping_shl((byte % 4 * 8) as u32);
                byte = byte.wrapping_add(1);
            }
            payload.wrapping_add(words).write(last);
        }
    }
}

/// The state of the outbox of lane `lane`, which exists.
#[inline(always)]
fn state_of(arguments: &KernelArguments, lane: u32) -> *mut OutboxState {
    let first = arguments.memory.wrapping_add(arguments.layout.outboxes) as *mut OutboxState;
    first.wrapping_add(lane as usize)
}

/// Who serves host actors; nobody where the engine has no outboxes.
///
/// # Safety
/// `mail` is that of the warp.
#[inline(never)]
pub(crate) unsafe fn server_of_hosts<A: Arch>(mail: *const Mail) -> Subscriber {
    // SAFETY: the caller vouches for the mail, whose arguments live as long as the kernel runs; where there are outboxes, the first lane
    // has a state.
    unsafe {
        if (*mail).outgoing == 0 {
            return Subscriber::NOBODY;
        }
        let arguments = &*((*mail).arguments as *const KernelArguments);
        decode_server(A::load_relaxed_gpu(&raw const (*state_of(arguments, 0)).hosts))
    }
}

/// Whether notice `index` of a handler has room.
///
/// # Safety
/// As for [`reserve`], which returned `true` and was told of the notice.
#[inline(always)]
pub(crate) unsafe fn has_room(mail: *const Mail, lane: u32, index: u32) -> bool {
    // SAFETY: the caller vouches for the mail; the buffer is this lane's alone.
    unsafe {
        let notice = notice_at(&*mail, lane, index);
        !notice.is_null() && (*notice).fate == fate::RESERVED
    }
}

/// Whether there may be such a duty to answer in the engine of these arguments.
///
/// # Safety
/// `mail` is that of the warp.
#[inline(never)]
pub(crate) unsafe fn is_possible(mail: *const Mail, duty: &Duty) -> bool {
    // SAFETY: as in `server_of_hosts`; nobody writes the table of lanes while the kernel runs, and the lane is one of it.
    unsafe {
        let arguments = &*((*mail).arguments as *const KernelArguments);
        let lanes = arguments.lanes as *const LaneAddresses;
        duty.is_possible(arguments.geometry.lanes, |lane| {
            RingShape::from_log2((*lanes.wrapping_add(lane as usize)).capacity_log2).capacity()
        })
    }
}

/// Reserves room for the first `posted` notices of a handler. When a subscriber that refuses to lose notices has none, everything is
/// given back, and `false`: the message is to fail.
///
/// # Safety
/// `mail` is that of the warp, `lane` the calling lane, whose handler posted so many notices, at most [`NOTICES_MAX`].
#[cold]
#[inline(never)]
pub unsafe fn reserve<A: Arch>(mail: *const Mail, lane: u32, posted: u32) -> bool {
    // SAFETY: the caller vouches for the mail, whose arguments live as long as the kernel runs.
    let (mail, arguments) = unsafe { (&*mail, &*((*mail).arguments as *const KernelArguments)) };
    let mut index = 0;
    while index < posted {
        let notice = notice_at(mail, lane, index);
        if notice.is_null() {
            return true;
        }
        // SAFETY: the buffer is this lane's alone.
        let fate = unsafe { reserve_one::<A>(arguments, (*notice).subscriber, (*notice).length) };
        // SAFETY: as above.
        unsafe { (*notice).fate = fate };
        if fate == fate::REFUSED {
            // SAFETY: the subscriber's lane exists, for it refused.
            unsafe {
                let state = state_of(arguments, (*notice).subscriber.lane);
                A::add_relaxed_gpu(&raw mut (*state).refused, 1);
            }
            if !mutant!("outbox_kept_after_refusal") {
                // SAFETY: as above; room was reserved for those before this one.
                unsafe { give_up::<A>(mail, lane, index) };
            }
            return false;
        }
        index = index.wrapping_add(1);
    }
    true
}

/// Gives back the room that is reserved for the first `count` notices of a handler.
///
/// # Safety
/// As for [`reserve`], which reserved it.
#[cold]
#[inline(never)]
pub(crate) unsafe fn give_up<A: Arch>(mail: *const Mail, lane: u32, count: u32) {
    // SAFETY: as in `reserve`.
    let (mail, arguments) = unsafe { (&*mail, &*((*mail).arguments as *const KernelArguments)) };
    let mut index = count;
    while index != 0 {
        index = index.wrapping_sub(1);
        let notice = notice_at(mail, lane, index);
        if notice.is_null() {
            return;
        }
        // SAFETY: the buffer is this lane's alone; what is reserved is for a lane that exists.
        unsafe {
            if (*notice).fate == fate::RESERVED {
                let state = state_of(arguments, (*notice).subscriber.lane);
                let slots = slots_for(0, (*notice).length as usize);
                A::add_relaxed_gpu(&raw mut (*state).room, slots.into());
            }
        }
    }
}

/// Reserves room for one notice; its [`fate`].
///
/// # Safety
/// The arguments are those of the launch.
#[inline(always)]
unsafe fn reserve_one<A: Arch>(arguments: &KernelArguments, subscriber: Subscriber, length: u16) -> u32 {
    // The words come from a client, and may be any.
    if subscriber.lane >= arguments.geometry.lanes {
        return fate::NOWHERE;
    }
    let state = state_of(arguments, subscriber.lane);
    // SAFETY: the state of a lane that exists.
    let owner = Owner(unsafe { A::load_relaxed_gpu(&raw const (*state).owner) } as u32);
    if !owner.is(subscriber.generation) && !mutant!("outbox_posts_to_other_generations") {
        return fate::STRAYED;
    }
    let slots = u64::from(slots_for(0, length as usize));
    // SAFETY: as above. Acquire pairs with the fence behind which the control warp gave the room.
    let before = unsafe { A::take_room_gpu(&raw mut (*state).room, slots) };
    if before as i64 >= slots as i64 || mutant!("outbox_room_unchecked") {
        return fate::RESERVED;
    }
    // SAFETY: as above.
    unsafe { A::add_relaxed_gpu(&raw mut (*state).room, slots) };
    if owner.refuses() { fate::REFUSED } else { fate::DROPPED }
}

/// Writes the notices for which room is reserved into their outboxes, in the order in which they were posted, and counts all of them.
///
/// # Safety
/// As for [`reserve`], which returned `true`.
#[cold]
#[inline(never)]
pub unsafe fn send<A: Arch>(mail: *const Mail, lane: u32, posted: u32, kind: u16, key: u64, event_hlc: u64) {
    // SAFETY: as in `reserve`.
    let (mail, arguments) = unsafe { (&*mail, &*((*mail).arguments as *const KernelArguments)) };
    let stats = Stats::at(mail.stats);
    let (mut sent, mut index) = (0u32, 0);
    while index < posted {
        let notice = notice_at(mail, lane, index);
        if notice.is_null() {
            break;
        }
        // SAFETY: the buffer is this lane's alone; a fate other than NOWHERE is that of a lane that exists.
        unsafe {
            let state = state_of(arguments, (*notice).subscriber.lane);
            match (*notice).fate {
                fate::RESERVED => {
                    let number = (*notice).number;
                    let generation = (*notice).subscriber.generation;
                    let header = notice_header(kind, key, number, (*notice).length, generation, event_hlc);
                    write::<A>(arguments, notice, state, &header);
                    A::add_relaxed_gpu(&raw mut (*state).posted, 1);
                    sent = sent.wrapping_add(1);
                }
                fate::DROPPED => A::add_relaxed_gpu(&raw mut (*state).dropped, 1),
                fate::STRAYED => A::add_relaxed_gpu(&raw mut (*state).strayed, 1),
                _ => {}
            }
        }
        index = index.wrapping_add(1);
    }
    stats.add::<A>(Counter::Notices, sent.into());
    stats.add::<A>(Counter::NoticesDropped, posted.wrapping_sub(sent).into());
}

/// Takes the ticket of a notice and writes its slots: nothing here can stop or fail.
///
/// # Safety
/// Room is reserved for the notice, which `header` is that of, in the outbox whose state is `state`.
#[inline(always)]
unsafe fn write<A: Arch>(
    arguments: &KernelArguments,
    notice: *const OutgoingNotice,
    state: *mut OutboxState,
    header: &Header,
) {
    // SAFETY: nobody writes the table of lanes while the kernel runs; the lane exists, for room was reserved.
    unsafe {
        let lanes = arguments.lanes as *const LaneAddresses;
        let ring = (*lanes.wrapping_add((*notice).subscriber.lane as usize)).outbox() as *mut Slot;
        let shape = RingShape::from_log2(arguments.geometry.outbox_log2);
        let slots = header.flags.span();
        // Acquire and Release: this lane has seen the room that those before it have, for the room that it found itself may be older
        // than the place that it gets.
        let mut position = A::take_ticket_gpu(&raw mut (*state).tail, slots.into());
        let head = header.encode();
        let payload = (&raw const (*notice).payload).cast::<u32>();
        let words = u32::from(header.length).wrapping_add(3) / 4;
        let mut first = 0u32;
        let mut slot = 0;
        while slot < slots {
            let to = ring.wrapping_add(shape.index(position) as usize).cast::<Chunk>();
            let lap = shape.lap(position);
            let mut chunk = 0u32;
            while chunk < (DATA_WORDS_PER_SLOT / DATA_WORDS_PER_CHUNK) as u32 {
                let mut data = [0; DATA_WORDS_PER_CHUNK];
                let mut i = 0;
                while i < DATA_WORDS_PER_CHUNK {
                    let at = first.wrapping_add(i as u32);
                    let in_payload = at.wrapping_sub(head.len() as u32);
                    let word = match head.get(at as usize) {
                        Some(word) => *word,
                        None if in_payload < words => payload.wrapping_add(in_payload as usize).read(),
                        None => 0,
                    };
                    // `i` is below the array's length.
                    *data.get_unchecked_mut(i) = word;
                    i = i.wrapping_add(1);
                }
                A::store_chunk_sys(to.wrapping_add(chunk as usize), Chunk::new(data, lap));
                first = first.wrapping_add(DATA_WORDS_PER_CHUNK as u32);
                chunk = chunk.wrapping_add(1);
            }
            position = position.wrapping_add(1);
            slot = slot.wrapping_add(1);
        }
    }
}

/// The control warp's look at the credits of the lanes `first`, `first + step` and so on: gives back the room that clients have read,
/// and learns who they are; and, by the lane whose `first` is 0, the same for the queue of dead letters. Also of lanes that nobody holds, for what their last holder said must not be missed.
///
/// # Safety
/// The arguments are those of the launch. Only the control warp calls this, each of its lanes for lanes of its own.
#[inline(never)]
pub unsafe fn look_at_credits<A: Arch>(arguments: &KernelArguments, first: u32, step: u32) {
    if first == 0 {
        // Here, for the loop of the control warp has no register to spare for another call.
        // SAFETY: the caller vouches for it.
        unsafe { look_at_taken::<A>(arguments) };
    }
    let mut lane = if arguments.geometry.outbox_log2 == 0 { u32::MAX } else { first };
    while lane < arguments.geometry.lanes {
        // SAFETY: the lane exists; the caller vouches for the rest.
        unsafe { look_at_credit::<A>(arguments, lane) };
        lane = lane.wrapping_add(step);
    }
}

/// As [`look_at_credits`], of one lane.
///
/// # Safety
/// As there; there are outboxes, and the lane exists.
#[inline(always)]
unsafe fn look_at_credit<A: Arch>(arguments: &KernelArguments, lane: u32) {
    let state = state_of(arguments, lane);
    // SAFETY: the caller vouches for the lane, whose head is mapped; only the control warp writes `seen` and `owner`.
    unsafe {
        let head = head_of(arguments, lane);
        let credit = Credit::decode(A::load_relaxed_sys(&raw const (*head).outbox.credit));
        let seen = A::load_relaxed_gpu(&raw const (*state).seen) as u32;
        let known = Owner(A::load_relaxed_gpu(&raw const (*state).owner) as u32);
        if credit.read != seen && !mutant!("outbox_credit_forgotten") {
            // Makes an acquire of the load above and a release of the addition below: what the client has read may be overwritten.
            A::fence_acquire_sys();
            let given = credit.read.wrapping_sub(seen);
            let unread = (A::load_relaxed_gpu(&raw const (*state).tail) as u32).wrapping_sub(seen);
            // More than was sent is no honest client's. It is not believed, or, should the ticket not have been seen here yet, the
            // next look believes it.
            if given <= unread || mutant!("outbox_credit_unchecked") {
                A::store_relaxed_gpu(&raw mut (*state).seen, credit.read.into());
                A::add_relaxed_gpu(&raw mut (*state).room, given.into());
            }
        }
        if credit.owner != known {
            A::store_relaxed_gpu(&raw mut (*state).owner, credit.owner.0.into());
            if credit.owner.serves_hosts() && credit.owner.is_open() {
                // It stays when that outbox is closed: what is posted to it strays, and what it still answers is taken.
                let server = Subscriber { lane, generation: credit.owner.generation() };
                A::store_relaxed_gpu(&raw mut (*state_of(arguments, 0)).hosts, encode_server(server));
            }
            tell_count::<A>(arguments, lane);
            // Handlers that begin when the client has seen this find the owner in the second-level cache, where the release put it.
            A::store_release_sys(&raw mut (*head).notices.owner, credit.owner.0.into());
        }
    }
}

/// Copies the counts of the lanes `first`, `first + step` and so on to their heads, for their clients.
///
/// # Safety
/// As for [`look_at_credits`].
#[inline(never)]
pub(crate) unsafe fn tell_counts<A: Arch>(arguments: &KernelArguments, first: u32, step: u32) {
    let mut lane = if arguments.geometry.outbox_log2 == 0 { u32::MAX } else { first };
    while lane < arguments.geometry.lanes {
        // SAFETY: the lane exists; the caller vouches for the rest.
        unsafe { tell_count::<A>(arguments, lane) };
        lane = lane.wrapping_add(step);
    }
}

/// As [`tell_counts`], of one lane.
///
/// # Safety
/// As for [`look_at_credit`].
#[inline(always)]
unsafe fn tell_count<A: Arch>(arguments: &KernelArguments, lane: u32) {
    let state = state_of(arguments, lane);
    // SAFETY: as in `look_at_credit`; the control warp alone writes the line.
    unsafe {
        let told = &raw mut (*head_of(arguments, lane)).notices;
        A::store_relaxed_sys(&raw mut (*told).posted, A::load_relaxed_gpu(&raw const (*state).posted));
        A::store_relaxed_sys(&raw mut (*told).dropped, A::load_relaxed_gpu(&raw const (*state).dropped));
        A::store_relaxed_sys(&raw mut (*told).refused, A::load_relaxed_gpu(&raw const (*state).refused));
        A::store_relaxed_sys(&raw mut (*told).strayed, A::load_relaxed_gpu(&raw const (*state).strayed));
    }
}

/// The head of lane `lane` in host memory.
///
/// # Safety
/// The lane exists.
#[inline(always)]
unsafe fn head_of(arguments: &KernelArguments, lane: u32) -> *mut LaneHeader {
    let lanes = arguments.lanes as *const LaneAddresses;
    // SAFETY: the caller vouches for the lane; nobody writes the table while the kernel runs.
    unsafe { (*lanes.wrapping_add(lane as usize)).head() }
}
