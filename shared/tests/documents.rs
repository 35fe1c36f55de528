//! What `docs/protocol.md` and `README.md` say is what the sources say.

use std::mem::offset_of;

use tourbillon_shared::arena::ArenaRef;
use tourbillon_shared::broadcast::{Broadcast, Broadcasts};
use tourbillon_shared::control::{ControlBlock, Mode, Processing};
use tourbillon_shared::dead_letter::{DeadLetterRecord, DeadLetterState};
use tourbillon_shared::dedup::{DedupEntry, DedupState};
use tourbillon_shared::epoch::EpochState;
use tourbillon_shared::error::FailureCode;
use tourbillon_shared::geometry::{
    Bucket, DeviceLayout, EntryHeader, Geometry, KernelArguments, LaneAddresses, ShardState,
};
use tourbillon_shared::header::{Flags, HEADER_WORDS, Header};
use tourbillon_shared::lane::{LaneClient, LaneConstants};
use tourbillon_shared::mailbox::MailboxState;
use tourbillon_shared::outbox::{LaneNotices, LaneOutbox, OutboxState, OutgoingNotice};
use tourbillon_shared::pool::{LanePool, PageNote, PoolState};
use tourbillon_shared::published::{BlockHead, ShardBlocks};
use tourbillon_shared::slot::{DATA_WORDS_PER_CHUNK, SLOT_BYTES, Slot};
use tourbillon_shared::supervision::{self, Bond, Happened, Refusal};
use tourbillon_shared::telemetry::{Counter, TelemetryHost, TelemetryPage, TelemetryStatus, WarpStats};
use tourbillon_shared::virtual_actors::{self, Ask, Order, StoreRequest, VirtualShard, WaitingFrame};
use tourbillon_shared::{
    arena, broadcast, dead_letter, dedup, frame, geometry, hlc, host_actors, lane, mailbox, outbox, partition, pool,
    position, published, slot,
};

const PROTOCOL: &str = include_str!("../../docs/protocol.md");
const README: &str = include_str!("../../README.md");
const HELLO: &str = include_str!("../../examples/01_hello.rs");

/// A field as the sources have it: name, byte offset, bytes.
type Field = (&'static str, usize, usize);

fn field_bytes<T, F>(_: impl Fn(&T) -> &F) -> usize {
    size_of::<F>()
}

/// All fields of a structure; one that is left out does not compile.
macro_rules! fields {
    ($name:ident { $($field:ident),+ $(,)? }) => {{
        let _complete = |$name { $($field: _),+ }: $name| ();
        (
            stringify!($name),
            size_of::<$name>(),
            vec![$((
                stringify!($field),
                offset_of!($name, $field),
                field_bytes(|value: &$name| &value.$field),
            )),+],
        )
    }};
}

/// The rows of the tables below the heading that begins with `heading`, without the lines above their rules.
fn rows(heading: &str) -> Vec<Vec<&'static str>> {
    let start = PROTOCOL.find(heading).unwrap_or_else(|| panic!("no heading `{heading}`")) + heading.len();
    let section = PROTOCOL[start..].split("\n#").next().unwrap_or_default();
    let cells = |line: &'static str| line.trim_matches('|').split('|').map(str::trim).collect::<Vec<_>>();
    section
        .lines()
        .filter(|line| line.starts_with('|'))
        .map(cells)
        .filter(|row| row[0].parse::<u64>().is_ok() || row[0].starts_with('`'))
        .collect()
}

fn check_layout((name, bytes, fields): (&str, usize, Vec<Field>)) {
    let heading = format!("\n### `{name}` ({bytes} bytes");
    let documented: Vec<_> =
        rows(&heading).iter().map(|row| (row[2].to_owned(), row[0].to_owned(), row[1].to_owned())).collect();
    let actual: Vec<_> = fields
        .iter()
        .map(|(field, offset, bytes)| (format!("`{field}`"), offset.to_string(), bytes.to_string()))
        .collect();
    assert_eq!(documented, actual, "{name}");
}

#[test]
fn layouts_are_as_documented() {
    check_layout(fields!(Slot { chunks }));
    check_layout(fields!(LaneConstants {
        magic,
        abi_hash,
        version,
        capacity_log2,
        total_bytes,
        request_offset,
        reply_offset,
        first_position,
        lane,
        arena_bytes,
        arena_offset,
        outbox_offset,
        outbox_log2,
        reserved
    }));
    check_layout(fields!(ArenaRef { offset, length, room, ticket }));
    check_layout(fields!(LaneClient { published, freed, process, reserved }));
    check_layout(fields!(LaneOutbox { credit, read, reserved }));
    check_layout(fields!(LaneNotices { owner, posted, dropped, refused, strayed, reserved }));
    check_layout(fields!(OutboxState { owner, room, tail, seen, posted, dropped, refused, strayed, hosts, reserved }));
    check_layout(fields!(OutgoingNotice { subscriber, number, length, fate, payload }));
    check_layout(fields!(ControlBlock { command, clock_offset, reserved }));
    check_layout(fields!(TelemetryPage { host, status, counters, latency }));
    check_layout(fields!(TelemetryHost {
        magic,
        abi_hash,
        process,
        backend,
        launches,
        started_unix_ns,
        mode_commanded,
        warps,
        shards,
        lanes,
        state_copies,
        device_name,
        reserved
    }));
    check_layout(fields!(TelemetryStatus {
        heartbeat,
        device_ns,
        epoch_obeyed,
        warps_running,
        relaunch_wanted,
        launched_device_ns,
        refreshes,
        reserved
    }));
    check_layout(fields!(WarpStats { counters, latency }));
    check_layout(fields!(KernelArguments {
        abi_hash,
        control,
        telemetry,
        lanes,
        memory,
        layout,
        geometry,
        refresh_ns,
        beat_ns,
        reserved
    }));
    check_layout(fields!(LaneAddresses { requests, replies, capacity_log2, arena_bytes, reserved }));
    check_layout(fields!(Geometry {
        blocks,
        gates,
        warps_per_block,
        combined,
        shards,
        lanes,
        ring_log2,
        actors_per_shard,
        entry_stride,
        directory_log2,
        landing_bytes,
        outbox_log2,
        dedup_entries,
        dead_letters_log2,
        pool_pages,
        waiters,
        store_log2,
        mailbox_log2,
        overflow_log2,
        published_pages
    }));
    check_layout(fields!(DeviceLayout {
        mirror,
        table,
        obeyed,
        stats,
        lane_heads,
        ring_tails,
        ring_heads,
        ring_freed,
        rings,
        shards,
        outboxes,
        directories,
        slabs,
        landings,
        outgoing,
        dedups,
        dead_letters,
        pools,
        lane_pools,
        virtuals,
        mailboxes,
        mail_rings,
        overflows,
        letters,
        epochs,
        published,
        total_bytes
    }));
    check_layout(fields!(ShardState { hlc, actors, reserved }));
    check_layout(fields!(PoolState { free, begun, reserved }));
    check_layout(fields!(PageNote { stamp, holder }));
    check_layout(fields!(LanePool {
        pool,
        slab,
        stamp,
        holder,
        pages,
        fresh,
        retired,
        dropped,
        spare,
        spares,
        taken,
        pools,
        published,
        shards,
        shard,
        publishing,
        retiring,
        limbo,
        issued,
        ended,
        unused,
        reserved
    }));
    check_layout(fields!(EpochState { epoch, reserved }));
    check_layout(fields!(ShardBlocks { first, last, blocks, pages, reserved }));
    check_layout(fields!(BlockHead { layout, length, size, pages, link, reserved }));
    check_layout(fields!(DedupState { pending, oldest, reserved }));
    check_layout(fields!(DedupEntry { id, key, version, kind, message, is_kept, length, next, reserved, payload }));
    check_layout(fields!(DeadLetterState { room, tail, taken, seen, reserved }));
    check_layout(fields!(DeadLetterRecord {
        sequence,
        hlc,
        key,
        kind,
        message,
        hops,
        length,
        flags,
        reason,
        lane,
        deadline,
        message_id,
        payload
    }));
    check_layout(fields!(Bucket { key, kind, entry }));
    check_layout(fields!(EntryHeader { hlc, version }));
    check_layout(fields!(Bond {
        parent,
        parent_kind,
        events_as,
        state,
        token,
        watch,
        is_armed,
        open,
        error,
        failures,
        code,
        children,
        reserved
    }));
    check_layout(fields!(StoreRequest {
        key,
        kind,
        entry,
        phase,
        number,
        first,
        last,
        pages,
        spare,
        spares,
        piece,
        collection,
        page,
        further,
        was_short
    }));
    check_layout(fields!(VirtualShard {
        requests,
        number,
        free_entry,
        free_entries,
        places,
        queue_first,
        queue_last,
        queue_frames,
        queue_actors,
        refused,
        free_node,
        nodes_used,
        waiting,
        asked,
        evicting,
        failures,
        wanted,
        sweep_before,
        sweep_next,
        sweep_left,
        sweep_found,
        pressure,
        leaving,
        reserved
    }));
    check_layout(fields!(WaitingFrame { key, kind, next, slots }));
    check_layout(fields!(MailboxState {
        tail,
        reserved_tail,
        room,
        reserved_room,
        answers,
        head,
        sent,
        received,
        overflowed,
        refused,
        overflow_room,
        overflow_tail,
        overflow_head,
        overflow_next,
        blocked,
        going,
        reserved,
        waiting
    }));
    check_layout(fields!(Broadcasts { room, reserved_room, tries, numbers, reserved }));
    check_layout(fields!(Broadcast { busy, left, begun, ticket, root, kind, reserved, frame }));
}

/// Which bytes of a frame's first slot a header's encoding touches.
fn touched(header: Header) -> (usize, usize) {
    let mut bytes = [0u8; SLOT_BYTES];
    for (word, value) in header.encode().into_iter().enumerate() {
        let at = 4 * (word + word / DATA_WORDS_PER_CHUNK);
        bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }
    let first = bytes.iter().position(|byte| *byte != 0).unwrap_or_default();
    let last = bytes.iter().rposition(|byte| *byte != 0).unwrap_or_default();
    (first, last + 1 - first)
}

#[test]
fn the_header_is_as_documented() {
    let zero = Header::default();
    let actual = [
        ("`key`", touched(Header { key: u64::MAX, ..zero })),
        ("`kind`", touched(Header { kind: u16::MAX, ..zero })),
        ("`message`", touched(Header { message: u8::MAX, ..zero })),
        ("`hops`", touched(Header { hops: u8::MAX, ..zero })),
        ("`length`", touched(Header { length: u16::MAX, ..zero })),
        ("`flags`", touched(Header { flags: Flags(u16::MAX), ..zero })),
        ("`hint`", touched(Header { hint: u64::MAX, ..zero })),
        ("`hlc`", touched(Header { hlc: u64::MAX, ..zero })),
    ];
    let heading = format!("\n### Header ({} bytes", HEADER_WORDS * 4);
    let documented: Vec<_> = rows(&heading)
        .into_iter()
        .map(|row| (row[2], (row[0].parse::<usize>().unwrap(), row[1].parse::<usize>().unwrap())))
        .collect();
    assert_eq!(documented, actual);
}

#[test]
fn flags_are_as_documented() {
    macro_rules! flags {
        ($($name:ident),+) => { [$((concat!("`", stringify!($name), "`"), Flags::$name)),+] };
    }
    let flags = flags!(
        TELL, URGENT, DEADLINE, MESSAGE_ID, SENDER, TRACE, CAUSAL, ARENA, REPLY, FAILED, IF_VERSION, MALFORMED, DRIFTED
    );
    let rows = rows("\n### Flags");
    assert_eq!(rows.len(), flags.len());
    for (row, (name, bit)) in rows.iter().zip(flags) {
        assert_eq!((row[0], row[1]), (bit.trailing_zeros().to_string().as_str(), name));
        assert_eq!(row[2], Flags(bit).extension_words().to_string(), "{name}");
        assert_eq!(row[3] != "refused", Flags::OF_REQUESTS & bit != 0, "{name}");
    }
}

#[test]
fn codes_modes_and_counters_are_as_documented() {
    let numbered = |heading: &str| -> Vec<(String, String)> {
        rows(heading).iter().map(|row| (row[0].to_owned(), row[1].to_owned())).collect()
    };
    let codes: Vec<_> = (0..100)
        .filter_map(|word| Some((word.to_string(), format!("`{:?}`", FailureCode::from_word(word)?))))
        .collect();
    assert_eq!(numbered("\n### Replies"), codes);

    let modes: Vec<_> =
        (0..100).filter_map(|word| Some((word.to_string(), format!("`{:?}`", Mode::from_word(word)?)))).collect();
    assert_eq!(numbered("\n### Modes"), modes);

    let ways: Vec<_> = [Processing::Adaptive, Processing::Continuous, Processing::Batch]
        .map(|way| ((way as u32).to_string(), format!("`{way:?}`")))
        .into();
    assert_eq!(numbered("\n### Ways of processing"), ways);

    use Counter::*;
    let counters = [
        Claimed,
        Processed,
        Failed,
        Panicked,
        Activated,
        BusyNs,
        Turns,
        NoRoom,
        Malformed,
        Drifted,
        Dropped,
        LanesLost,
        WarpsRetired,
        LastFailure,
        Notices,
        NoticesDropped,
        Claims,
        Letters,
        Evicted,
        Fetched,
        Waiting,
        FetchFailures,
        EvictFailures,
        LettersOverflowed,
        Expired,
        Duplicates,
        StaleVersions,
        DeadLetters,
        DeadLettersDropped,
        PagesTaken,
        PagesGiven,
        PoolExhausted,
        BlocksPublished,
        BlocksRetired,
        BlocksReclaimed,
        LettersPutBack,
        Restarts,
        Stops,
        Supervised,
        TooLargeToEvict,
        Broadcasts,
        BroadcastLetters,
    ];
    let counters = counters.map(|counter| ((counter as u32).to_string(), format!("`{counter:?}`")));
    assert_eq!(numbered("\n### Counters"), counters);

    let asks: Vec<_> = (0..100)
        .filter_map(|number| Some((number.to_string(), format!("`{:?}`", Ask::from_number(number)?))))
        .collect();
    assert_eq!(numbered("\n### Requests of a shard"), asks);
    let orders: Vec<_> =
        (0..100).filter_map(|word| Some((word.to_string(), format!("`{:?}`", Order::from_word(word)?)))).collect();
    assert_eq!(numbered("\n### Orders\n"), orders);
    let orders: Vec<_> = (0..100)
        .filter_map(|number| Some((number.to_string(), format!("`{:?}`", supervision::Order::from_number(number)?))))
        .collect();
    assert_eq!(numbered("\n### Orders of parents"), orders);
    let events =
        (0..100).filter_map(|number| Some((number.to_string(), format!("`{:?}`", Happened::from_number(number)?))));
    let reasons =
        (0..100).filter_map(|number| Some((number.to_string(), format!("`{:?}`", Refusal::from_number(number)?))));
    assert_eq!(numbered("\n### Events"), events.chain(reasons).collect::<Vec<_>>());
}

#[test]
fn bounds_are_as_documented() {
    let bounds = [
        ("`SLOT_BYTES`", slot::SLOT_BYTES as u64),
        ("`FRAME_SLOTS_MAX`", frame::FRAME_SLOTS_MAX as u64),
        ("`PAYLOAD_BYTES_MAX`", frame::PAYLOAD_BYTES_MAX as u64),
        ("`PAYLOAD_BYTES_OF_ONE_SLOT`", frame::PAYLOAD_BYTES_OF_ONE_SLOT as u64),
        ("`LARGE_BYTES_MAX`", arena::LARGE_BYTES_MAX as u64),
        ("`ARENA_BYTES_MAX`", arena::ARENA_BYTES_MAX.into()),
        ("`ARENA_GRANULE`", arena::ARENA_GRANULE.into()),
        ("`ARENA_HEAD_BYTES`", arena::ARENA_HEAD_BYTES.into()),
        ("`RING_CAPACITY_MIN`", position::RING_CAPACITY_MIN.into()),
        ("`RING_CAPACITY_MAX`", position::RING_CAPACITY_MAX.into()),
        ("`LANES_MAX`", lane::LANES_MAX.into()),
        ("`SHARDS_MAX`", partition::SHARDS_MAX.into()),
        ("`PARTITIONS`", partition::PARTITIONS as u64),
        ("`NOTICES_MAX`", outbox::NOTICES_MAX.into()),
        ("`OUTBOX_CAPACITY_MIN`", outbox::OUTBOX_CAPACITY_MIN.into()),
        ("`OUTBOX_CAPACITY_MAX`", outbox::OUTBOX_CAPACITY_MAX.into()),
        ("`LETTERS_MAX`", mailbox::LETTERS_MAX.into()),
        ("`MAILBOX_CAPACITY_MIN`", mailbox::MAILBOX_CAPACITY_MIN.into()),
        ("`MAILBOX_CAPACITY_MAX`", mailbox::MAILBOX_CAPACITY_MAX.into()),
        ("`OVERFLOW_CAPACITY_MIN`", mailbox::OVERFLOW_CAPACITY_MIN.into()),
        ("`OVERFLOW_CAPACITY_MAX`", mailbox::OVERFLOW_CAPACITY_MAX.into()),
        ("`HOPS_MAX`", mailbox::HOPS_MAX.into()),
        ("`EVENT_ROOM_MAX`", supervision::EVENT_ROOM_MAX.into()),
        ("`FAILURES_TOLD_MAX`", supervision::FAILURES_TOLD_MAX.into()),
        ("`TOKEN_MAX`", supervision::TOKEN_MAX.into()),
        ("`BROADCASTS_MAX`", broadcast::BROADCASTS_MAX.into()),
        ("`GENERATION_MAX`", outbox::GENERATION_MAX.into()),
        ("`HOST_PAYLOAD_MAX`", host_actors::HOST_PAYLOAD_MAX as u64),
        ("`DEDUP_ENTRIES_MIN`", dedup::DEDUP_ENTRIES_MIN.into()),
        ("`DEDUP_ENTRIES_MAX`", dedup::DEDUP_ENTRIES_MAX.into()),
        ("`DEAD_LETTERS_MIN`", dead_letter::DEAD_LETTERS_MIN.into()),
        ("`DEAD_LETTERS_MAX`", dead_letter::DEAD_LETTERS_MAX.into()),
        ("`DEAD_LETTER_PAYLOAD_BYTES`", dead_letter::DEAD_LETTER_PAYLOAD_BYTES as u64),
        ("`PAGE_BYTES`", pool::PAGE_BYTES as u64),
        ("`POOL_PAGES_MAX`", pool::POOL_PAGES_MAX.into()),
        ("`BLOCK_PAGES_MAX`", published::BLOCK_PAGES_MAX.into()),
        ("`BLOCK_BYTES_MAX`", published::BLOCK_BYTES_MAX.into()),
        ("`GATES_MAX`", geometry::GATES_MAX.into()),
        ("`WARPS_PER_BLOCK_MAX`", geometry::WARPS_PER_BLOCK_MAX.into()),
        ("`BLOCK_MEMORY_BYTES`", geometry::BLOCK_MEMORY_BYTES as u64),
        ("`DRIFT_US_MAX`", hlc::DRIFT_US_MAX),
        ("`KIND_MAX`", virtual_actors::KIND_MAX.into()),
        ("`REQUESTS_MAX`", virtual_actors::REQUESTS_MAX.into()),
        ("`EVICTED_PAGES_MAX`", virtual_actors::EVICTED_PAGES_MAX.into()),
        ("`WAITERS_MAX`", virtual_actors::WAITERS_MAX.into()),
    ];
    let documented: Vec<_> = rows("\n## Bounds").iter().map(|row| (row[0], row[1].parse::<u64>().unwrap())).collect();
    assert_eq!(documented, bounds);
    assert!(PROTOCOL.contains(&format!("Version of the lane layout: {}.", lane::LANE_VERSION)));
}

#[test]
fn the_readme_shows_the_example() {
    let code = HELLO.split_once("\n\n").map_or(HELLO, |(_, code)| code).trim();
    assert!(README.contains(code), "README.md does not show examples/01_hello.rs");
}
