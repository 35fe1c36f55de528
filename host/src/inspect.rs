//! Looking at one actor's state from the host: a copy of state, and counted as one.

use tourbillon_device::Actor;
use tourbillon_shared::control::Mode;
use tourbillon_shared::geometry::{Bucket, EntryHeader};
use tourbillon_shared::partition::{even_table, hash, partition_of};
use tourbillon_shared::virtual_actors::holder;

use crate::backend::Purpose;
use crate::error::EngineError;
use crate::keys::Key;
use crate::shared::Shared;

/// Buckets that are read at a time: a probe rarely goes further.
const BUCKETS_PER_READ: usize = 32;
/// Words of a bucket and of an entry's header.
const WORDS: usize = 2;

/// The actor `A` at `key` between two messages, if it was ever activated. Pauses an engine that is active.
pub(crate) fn inspect<A: Actor>(shared: &Shared, key: Key) -> Result<Option<(EntryHeader, A)>, EngineError> {
    let kind = shared.image.kinds.iter().find(|kind| kind.number == A::KIND && kind.state_bytes == size_of::<A>());
    if kind.is_none() {
        return Err(EngineError::NoSuchKind { system: shared.image.name, kind: A::KIND, name: A::NAME });
    }
    let _steps = shared.steps();
    match shared.mode() {
        Mode::Active => {
            let paused = shared.transition(Mode::Paused);
            let found = paused.and_then(|()| find(shared, key));
            shared.transition(Mode::Active)?;
            found
        }
        // An engine that drains cannot be paused: its actor may change while it is looked at.
        Mode::Draining => Err(EngineError::NoTransition { from: Mode::Draining, to: Mode::Paused }),
        Mode::Resident | Mode::Paused | Mode::Stopped => find(shared, key),
    }
}

/// Looks the actor up as the device does.
fn find<A: Actor>(shared: &Shared, key: Key) -> Result<Option<(EntryHeader, A)>, EngineError> {
    let (geometry, layout) = (&shared.geometry, &shared.layout);
    let mut core = shared.core();
    if core.is_closed {
        return Err(shared.stopped());
    }
    let (word, key) = (key.kind_word(A::KIND), key.number());
    let hash = hash(word, key);
    let shard = u64::from(even_table(geometry.shards)[partition_of(hash)]);
    let buckets = 1u64 << geometry.directory_log2;
    let directory = layout.directories + shard * buckets * size_of::<Bucket>() as u64;
    let mut index = hash & (buckets - 1);
    let mut seen = 0;
    while seen < buckets {
        let count = BUCKETS_PER_READ.min((buckets - index) as usize);
        let mut words = [0u64; BUCKETS_PER_READ * WORDS];
        let words = &mut words[..count * WORDS];
        core.machine.read(directory + index * size_of::<Bucket>() as u64, words, Purpose::Other)?;
        for pair in words.chunks_exact(WORDS) {
            let (kind, entry) = (pair[1] as u32, pair[1] >> 32);
            if kind == 0 {
                return Ok(None);
            }
            if pair[0] == key && kind as u16 == word {
                if entry >= u64::from(geometry.actors_per_shard) {
                    return Err(EngineError::Damaged { what: "a directory bucket points outside its slab" });
                }
                let stride = u64::from(geometry.entry_stride);
                let slab = layout.slabs + shard * u64::from(geometry.actors_per_shard) * stride;
                let mut words = vec![0u64; stride as usize / 8];
                core.machine.read(slab + entry * stride, &mut words, Purpose::State)?;
                shared.publish(&core);
                let bytes: &[u8] = bytemuck::cast_slice(&words);
                let (header, state) = bytes.split_at(size_of::<EntryHeader>());
                let header: EntryHeader = bytemuck::pod_read_unaligned(header);
                // Of an actor that is being fetched there is nothing yet.
                if holder(kind).is_some() && header.hlc == 0 {
                    return Ok(None);
                }
                let state = A::from_bytes(&state[..size_of::<A>()]);
                let state = state.ok_or(EngineError::Damaged { what: "the bytes of a state are no value of it" })?;
                return Ok(Some((header, state)));
            }
        }
        seen += count as u64;
        index = (index + count as u64) & (buckets - 1);
    }
    Ok(None)
}
