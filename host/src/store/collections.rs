//! What is in an actor's collections as bytes for a store: no page's number, no padding, nothing of the engine's geometry.
//!
//! # Format
//! All numbers are little-endian. No byte at all where every collection is empty; else
//!
//! | bytes | content |
//! | ---: | --- |
//! | 4 | [`FORMAT`] |
//! | 4 | collections that follow: those of the state that are not empty |
//!
//! and of each of them
//!
//! | bytes | content |
//! | ---: | --- |
//! | 8 | hash of the names of the fields that lead to it |
//! | 8 | hash of its layout, elements included |
//! | 4 | elements or entries |
//! | 4 | buckets of a map or a set, 0 of a sequence |
//! | | elements in order; or entries as they are iterated, each a key and its value |
//!
//! A bucket follows from a key's hash and their number, so a map comes back with the same buckets, and is iterated as it was.

use tourbillon_device::Kind;
use tourbillon_device::contents::{Collection, Sort, bucket_of, tree_pages};
use tourbillon_shared::mutant;
use tourbillon_shared::pool::PAGE_BYTES;
use tourbillon_shared::virtual_actors::EVICTED_PAGES_MAX;

/// First word of the bytes.
pub(super) const FORMAT: u32 = 1;
/// Bytes in front of a collection's elements.
const HEAD_BYTES: usize = 24;

/// Why the contents of an actor's collections cannot be kept, or are not taken over.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CollectionsError {
    /// The bytes are of no format that this version writes.
    #[error(
        "the collections of {actor} were kept in format {found}, this version has format {FORMAT}: bring them to a newer one"
    )]
    OtherFormat {
        /// Name of the actor.
        actor: &'static str,
        /// First word of the bytes.
        found: u32,
    },
    /// The bytes contradict themselves.
    #[error("what was kept of the collections of {actor} is damaged: {what}")]
    Damaged {
        /// Name of the actor.
        actor: &'static str,
        /// What does not fit.
        what: &'static str,
    },
    /// The state has no collection of this name.
    #[error(
        "a collection of {actor} was kept that its state has no field for (its names' hash is {name:#018x}): give the field its old \
         name, or bring the actor to a program that has it and empty the collection there"
    )]
    UnknownField {
        /// Name of the actor.
        actor: &'static str,
        /// Hash of the names of the fields that led to it.
        name: u64,
    },
    /// The collection has other elements than the one that was kept.
    #[error(
        "the collection {field} of {actor} was kept with elements of another layout ({found:#018x}, here {expected:#018x}): `upgrade` \
         takes over the state alone; keep the type of the elements, or give the new one a field of its own"
    )]
    OtherLayout {
        /// Name of the actor.
        actor: &'static str,
        /// The outermost field that leads to it.
        field: &'static str,
        /// Layout of what was kept.
        found: u64,
        /// Layout of the collection in this system.
        expected: u64,
    },
    /// The bytes of an element, a key or a value are none.
    #[error("what was kept of {field} of {actor} is damaged: the bytes of element {index} are no value of its type")]
    InvalidElement {
        /// Name of the actor.
        actor: &'static str,
        /// The outermost field that leads to it.
        field: &'static str,
        /// Which one, in order.
        index: u32,
    },
    /// There is more than an actor may have that comes and goes.
    #[error("the collections of {actor} have {pages} pages, {EVICTED_PAGES_MAX} are the most for an actor in a store")]
    TooLarge {
        /// Name of the actor.
        actor: &'static str,
        /// How many there are.
        pages: u64,
    },
    /// The device could not read a collection that it was to send.
    #[error(
        "a collection of {actor} cannot be read: its handle was copied, or another was put in its place; move elements, not handles"
    )]
    Unreadable {
        /// Name of the actor.
        actor: &'static str,
    },
}

/// What a page holds: as much as fits, or what is left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Page {
    /// Which of the state's collections.
    pub(super) collection: u32,
    /// Whether it is not the first one of its bucket.
    pub(super) is_further: bool,
    /// Elements or entries.
    pub(super) count: u32,
    /// Their bytes as they lie in a page.
    pub(super) bytes: Vec<u8>,
}

/// Makes the handles in a state those of empty collections; nothing where it is too short for them.
pub(super) fn empty_handles(kind: &Kind, state: &mut [u8]) {
    for collection in kind.collections {
        let handle =
            state.get_mut(collection.offset as usize..).and_then(|rest| rest.get_mut(..collection.handle_bytes()));
        if let Some(handle) = handle {
            handle.fill(0);
        }
    }
}

/// The bytes for a store of what is in `pages`, which are those of an actor with this state.
///
/// # Errors
/// [`CollectionsError::Damaged`] when they are not.
pub(super) fn encode(kind: &Kind, state: &[u8], pages: &[Page]) -> Result<Vec<u8>, CollectionsError> {
    let damaged = |what| CollectionsError::Damaged { actor: kind.name, what };
    let (mut kept, mut bytes) = (0u32, Vec::new());
    for (number, collection) in (0u32..).zip(kind.collections) {
        let (length, buckets) =
            collection.lengths(state).ok_or(damaged("the state is too short for its collections"))?;
        if (length, buckets) == (0, 0) {
            continue;
        }
        kept += 1;
        bytes.extend_from_slice(&collection.name.to_le_bytes());
        bytes.extend_from_slice(&collection.layout.to_le_bytes());
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(&buckets.to_le_bytes());
        let (mut found, mut firsts) = (0u64, 0u32);
        for page in pages.iter().filter(|page| page.collection == number) {
            firsts += u32::from(!page.is_further);
            found += u64::from(page.count);
            for element in page.bytes.chunks_exact(collection.stride.max(1) as usize).take(page.count as usize) {
                let (key, value) = parts(collection, element).ok_or(damaged("an entry is too short"))?;
                if collection.sort == Sort::Map && bucket_of(key, buckets) + 1 != firsts {
                    return Err(damaged("an entry is in another bucket than its key's"));
                }
                bytes.extend_from_slice(key);
                bytes.extend_from_slice(value);
            }
        }
        if found != u64::from(length) || (collection.sort == Sort::Map && firsts != buckets) {
            return Err(damaged("there are more or fewer elements than it says"));
        }
    }
    if kept != 0 {
        let head = [FORMAT.to_le_bytes(), kept.to_le_bytes()].concat();
        bytes.splice(..0, head);
    }
    Ok(bytes)
}

/// Key and value of an entry, or an element and nothing.
fn parts<'b>(collection: &Collection, entry: &'b [u8]) -> Option<(&'b [u8], &'b [u8])> {
    let key = entry.get(..collection.key as usize)?;
    let value = entry.get(collection.value_at as usize..)?.get(..collection.value as usize)?;
    Some((key, value))
}

/// Reads numbers off the front of bytes.
struct Reader<'b>(&'b [u8]);

impl<'b> Reader<'b> {
    fn take(&mut self, bytes: usize) -> Option<&'b [u8]> {
        let (taken, rest) = self.0.split_at_checked(bytes)?;
        self.0 = rest;
        Some(taken)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take(4)?.try_into().ok().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take(8)?.try_into().ok().map(u64::from_le_bytes)
    }
}

/// The pages of an actor of which these bytes were kept, and how many it takes in a pool, with those that only lead to others.
///
/// # Errors
/// [`CollectionsError`] with what the bytes are not; whatever they are, what comes back are pages of this kind's collections.
pub(super) fn decode(kind: &Kind, bytes: &[u8]) -> Result<(Vec<Page>, u32), CollectionsError> {
    let actor = kind.name;
    let damaged = |what| CollectionsError::Damaged { actor, what };
    let cut = || damaged("it ends too early");
    let mut reader = Reader(bytes);
    if bytes.is_empty() {
        return Ok((Vec::new(), 0));
    }
    let found = reader.u32().ok_or_else(cut)?;
    if found != FORMAT {
        return Err(CollectionsError::OtherFormat { actor, found });
    }
    let (mut pages, mut contents, mut needed) = (Vec::new(), 0u64, 0u64);
    let mut seen = Vec::new();
    for _ in 0..reader.u32().ok_or_else(cut)? {
        let mut head = Reader(reader.take(HEAD_BYTES).ok_or_else(cut)?);
        let (name, layout) = (head.u64().ok_or_else(cut)?, head.u64().ok_or_else(cut)?);
        let (length, buckets) = (head.u32().ok_or_else(cut)?, head.u32().ok_or_else(cut)?);
        let place = kind.collections.iter().position(|collection| collection.name == name);
        let (number, collection) = place
            .and_then(|number| Some((number, kind.collections.get(number)?)))
            .ok_or(CollectionsError::UnknownField { actor, name })?;
        if layout != collection.layout && !mutant!("collections_taken_whatever_the_layout") {
            let (field, expected) = (collection.field, collection.layout);
            return Err(CollectionsError::OtherLayout { actor, field, found: layout, expected });
        }
        if seen.contains(&number) {
            return Err(damaged("a collection is there twice"));
        }
        seen.push(number);
        if match collection.sort {
            Sort::Sequence => buckets != 0,
            Sort::Map => buckets == 0 && length != 0,
        } {
            return Err(damaged("there are buckets where none belong, or none where some do"));
        }
        contents = contents.saturating_add(collection.pages(length, buckets));
        if contents > u64::from(EVICTED_PAGES_MAX) {
            return Err(CollectionsError::TooLarge { actor, pages: contents });
        }
        let entry_bytes = (collection.key + collection.value) as usize;
        // Not more than pages within the bound.
        let elements = reader.take(length as usize * entry_bytes).ok_or_else(cut)?;
        check_values(actor, collection, elements)?;
        let before = pages.len();
        match collection.sort {
            Sort::Sequence => fill(&mut pages, number as u32, collection, elements),
            Sort::Map => fill_buckets(&mut pages, number as u32, collection, elements, buckets).map_err(damaged)?,
        }
        let (firsts, all) = match collection.sort {
            Sort::Sequence => (pages.len() - before, pages.len() - before),
            Sort::Map => (buckets as usize, pages.len() - before),
        };
        needed += tree_pages(firsts as u32) + (all - firsts) as u64;
    }
    if !reader.0.is_empty() {
        return Err(damaged("there is more of it than it says"));
    }
    // At most the bound and what leads there.
    Ok((pages, needed as u32))
}

/// Whether every element, or key and value, is one.
fn check_values(actor: &'static str, collection: &Collection, elements: &[u8]) -> Result<(), CollectionsError> {
    let entry_bytes = (collection.key + collection.value).max(1) as usize;
    for (index, entry) in (0u32..).zip(elements.chunks_exact(entry_bytes)) {
        let (key, value) = entry.split_at_checked(collection.key as usize).unwrap_or_default();
        for (part, is_valid) in [key, value].into_iter().zip(collection.are_valid) {
            // As large and aligned as the largest element.
            let mut place = [0u128; PAGE_BYTES / size_of::<u128>()];
            bytemuck::bytes_of_mut(&mut place).iter_mut().zip(part).for_each(|(to, from)| *to = *from);
            // SAFETY: the bytes of an element are in a place that is large enough, aligned and all set.
            if !unsafe { is_valid(place.as_ptr().cast()) } && !mutant!("elements_from_stores_unchecked") {
                return Err(CollectionsError::InvalidElement { actor, field: collection.field, index });
            }
        }
    }
    Ok(())
}

/// Elements one after the other, as many in a page as fit.
fn fill(pages: &mut Vec<Page>, number: u32, collection: &Collection, elements: &[u8]) {
    let stride = collection.stride.max(1) as usize;
    for bytes in elements.chunks(stride * collection.per_page.max(1) as usize) {
        let count = (bytes.len() / stride) as u32;
        pages.push(Page { collection: number, is_further: false, count, bytes: bytes.to_vec() });
    }
}

/// Entries of a map, bucket after bucket; what does not fit, when it does not.
fn fill_buckets(
    pages: &mut Vec<Page>,
    number: u32,
    collection: &Collection,
    elements: &[u8],
    buckets: u32,
) -> Result<(), &'static str> {
    let key_bytes = collection.key as usize;
    let mut entries = elements.chunks_exact(key_bytes + collection.value as usize).peekable();
    for bucket in 0..buckets {
        let mut page = Page { collection: number, is_further: false, count: 0, bytes: Vec::new() };
        let mut keys = std::collections::HashSet::new();
        while let Some(entry) = entries.next_if(|entry| bucket_of(&entry[..key_bytes], buckets) == bucket) {
            let (key, value) = entry.split_at(key_bytes);
            if !keys.insert(key) {
                return Err("a key is there twice");
            }
            if page.count == collection.per_page {
                let next = Page { is_further: true, count: 0, bytes: Vec::new(), ..page.clone() };
                pages.push(std::mem::replace(&mut page, next));
            }
            let start = page.bytes.len();
            page.bytes.extend_from_slice(key);
            page.bytes.resize(start + collection.value_at as usize, 0);
            page.bytes.extend_from_slice(value);
            page.bytes.resize(start + collection.stride as usize, 0);
            page.count += 1;
        }
        pages.push(page);
    }
    if entries.next().is_some() { Err("entries are not in the order of their buckets") } else { Ok(()) }
}

#[cfg(test)]
#[path = "collections_tests.rs"]
mod tests;
