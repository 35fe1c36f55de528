//! The hash that two sides compare before they trust each other's memory.

use crate::{
    arena, broadcast, control, dead_letter, dedup, epoch, frame, geometry, header, host_actors, lane, mailbox, outbox,
    partition, pool, position, published, slot, supervision, telemetry, virtual_actors,
};

/// FNV-1a over the sizes of the layouts in this crate, the offsets that sizes do not pin, and the constants of the protocol. What a
/// change of meaning leaves out of it must be told by [`lane::LANE_VERSION`].
pub const HASH: u64 = {
    use core::mem::offset_of;
    let facts = [
        lane::LANE_VERSION as u64,
        slot::SLOT_BYTES as u64,
        slot::TAG_WORD as u64,
        size_of::<lane::LaneHeader>() as u64,
        offset_of!(lane::LaneConstants, first_position) as u64,
        offset_of!(lane::LaneConstants, arena_offset) as u64,
        offset_of!(lane::LaneConstants, outbox_offset) as u64,
        offset_of!(lane::LaneHeader, client) as u64,
        offset_of!(lane::LaneHeader, outbox) as u64,
        offset_of!(lane::LaneHeader, notices) as u64,
        lane::LANE_HEADER_BYTES as u64,
        lane::LANES_MAX as u64,
        header::HEADER_WORDS as u64,
        header::Flags::OF_REQUESTS as u64,
        frame::FRAME_SLOTS_MAX as u64,
        arena::ARENA_REF_WORDS as u64,
        arena::ARENA_HEAD_BYTES as u64,
        arena::LARGE_BYTES_MAX as u64,
        header::Flags::NOTICE as u64,
        outbox::GENERATION_MAX as u64,
        offset_of!(outbox::LaneNotices, strayed) as u64,
        size_of::<outbox::OutboxState>() as u64,
        size_of::<outbox::Outgoing>() as u64,
        position::RING_CAPACITY_MAX as u64,
        partition::PARTITIONS as u64,
        partition::SHARDS_MAX as u64,
        size_of::<control::ControlBlock>() as u64,
        size_of::<telemetry::TelemetryPage>() as u64,
        size_of::<telemetry::WarpStats>() as u64,
        telemetry::Counter::EvictFailures as u64,
        telemetry::Counter::DeadLettersDropped as u64,
        size_of::<dead_letter::DeadLetterState>() as u64,
        size_of::<dead_letter::DeadLetterRecord>() as u64,
        size_of::<dedup::DedupState>() as u64,
        size_of::<dedup::DedupEntry>() as u64,
        telemetry::Counter::PoolExhausted as u64,
        telemetry::Counter::TooLargeToEvict as u64,
        telemetry::Counter::LettersPutBack as u64,
        mailbox::LetterHint::GOES_ON as u64,
        pool::PAGE_BYTES as u64,
        pool::POOL_HEAD_BYTES,
        size_of::<pool::PoolState>() as u64,
        size_of::<pool::PageNote>() as u64,
        size_of::<pool::LanePool>() as u64,
        telemetry::Counter::BlocksReclaimed as u64,
        published::BLOCK_HOLDER,
        size_of::<published::BlockHead>() as u64,
        size_of::<published::ShardBlocks>() as u64,
        size_of::<epoch::EpochState>() as u64,
        epoch::GRACE_EPOCHS,
        control::BATCH_WAIT_US_MAX as u64,
        size_of::<geometry::KernelArguments>() as u64,
        size_of::<geometry::Geometry>() as u64,
        size_of::<geometry::DeviceLayout>() as u64,
        size_of::<geometry::LaneAddresses>() as u64,
        size_of::<geometry::ShardState>() as u64,
        size_of::<geometry::Bucket>() as u64,
        size_of::<geometry::EntryHeader>() as u64,
        virtual_actors::ORDER_KIND as u64,
        virtual_actors::REQUESTS_MAX as u64,
        virtual_actors::Order::Piece as u64,
        virtual_actors::EVICTED_PAGES_MAX as u64,
        size_of::<virtual_actors::VirtualShard>() as u64,
        size_of::<virtual_actors::WaitingFrame>() as u64,
        size_of::<mailbox::MailboxState>() as u64,
        mailbox::OUTGOING_LETTER_WORDS as u64,
        mailbox::LETTERS_MAX as u64,
        mailbox::HOPS_MAX as u64,
        supervision::BOND_BYTES as u64,
        supervision::EVENT_ROOM_MAX as u64,
        broadcast::BROADCAST_KIND as u64,
        broadcast::BROADCASTS_BYTES,
        broadcast::BROADCAST_FANOUT as u64,
        telemetry::Counter::BroadcastLetters as u64,
        host_actors::ANSWER as u64,
        host_actors::HOST_PAYLOAD_MAX as u64,
        offset_of!(outbox::OutboxState, hosts) as u64,
    ];
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    let mut i = 0;
    while i < facts.len() {
        let bytes = facts[i].to_le_bytes();
        let mut j = 0;
        while j < bytes.len() {
            hash = (hash ^ bytes[j] as u64).wrapping_mul(0x0000_0100_0000_01b3);
            j += 1;
        }
        i += 1;
    }
    hash
};
