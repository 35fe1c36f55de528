//! The bytes of collections: what was kept comes back, and whatever else comes is refused.

use super::super::pieces::{Gathering, cut};
use super::*;
use proptest::prelude::*;
use std::collections::HashSet;
use tourbillon_device::{
    Context, Handler, NoError, Plain, PoolMap, PoolSet, PoolVec, State, SystemImage, actor, system,
};

#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
enum Colour {
    Red = 1,
    Blue = 2,
}

/// A collection of each sort: elements that are not whole words, keys in front of padding, values that are checked.
#[repr(C)]
#[derive(Clone, Copy, State)]
struct Cupboard {
    bytes: PoolVec<[u8; 3]>,
    colours: PoolMap<u8, Colour>,
    ages: PoolMap<u16, u64>,
    seen: PoolSet<u128>,
    handled: u32,
}

/// The same with other elements under the name of the first.
#[repr(C)]
#[derive(Clone, Copy, State)]
struct Rebuilt {
    bytes: PoolVec<[u8; 4]>,
    colours: PoolMap<u8, Colour>,
    handled: u32,
}

#[repr(C)]
#[derive(Clone, Copy, Plain)]
struct Open {}
#[repr(C)]
#[derive(Clone, Copy, Plain)]
struct Shut {}

impl Handler<Open> for Cupboard {
    type Reply = u32;
    fn handle(&mut self, _message: &Open, _context: &mut Context) -> Result<u32, NoError> {
        Ok(self.handled)
    }
}
impl Handler<Shut> for Rebuilt {
    type Reply = u32;
    fn handle(&mut self, _message: &Shut, _context: &mut Context) -> Result<u32, NoError> {
        Ok(self.handled)
    }
}

actor!(Cupboard { kind: 901, pools: true, error: NoError, messages: { #[outlined] 0: Open } });
actor!(Rebuilt { kind: 902, pools: true, error: NoError, messages: { #[outlined] 0: Shut } });
system! { struct Kitchen = [Cupboard, Rebuilt]; }

fn kind_of(number: u16) -> Kind {
    let image: SystemImage = Kitchen::image();
    *image.kinds.iter().find(|kind| kind.number == number).unwrap()
}

fn cupboard() -> Kind {
    kind_of(901)
}

/// What is in a cupboard.
#[derive(Clone, Debug)]
struct Contents {
    bytes: Vec<[u8; 3]>,
    colours: Vec<(u8, u8)>,
    ages: Vec<(u16, u64)>,
    seen: Vec<u128>,
    buckets: [u32; 3],
}

/// Some contents, of which no key is there twice.
fn contents() -> impl Strategy<Value = Contents> {
    let bytes = proptest::collection::vec(any::<[u8; 3]>(), 0..400);
    let colours = proptest::collection::btree_map(any::<u8>(), 1u8..=2, 0..200);
    let ages = proptest::collection::btree_map(any::<u16>(), any::<u64>(), 0..120);
    let seen = proptest::collection::btree_set(any::<u128>(), 0..120);
    (bytes, colours, ages, seen, [1u32..9, 1u32..40, 1u32..40]).prop_map(|(bytes, colours, ages, seen, buckets)| {
        Contents {
            bytes,
            colours: colours.into_iter().collect(),
            ages: ages.into_iter().collect(),
            seen: seen.into_iter().collect(),
            buckets,
        }
    })
}

impl Contents {
    /// The entries of each collection as a page has them, padding included, in the order in which they are iterated.
    fn entries(&self) -> [Vec<Vec<u8>>; 4] {
        let in_order = |mut entries: Vec<(Vec<u8>, Vec<u8>)>, buckets: u32| {
            entries.sort_by_key(|(key, _)| bucket_of(key, buckets));
            entries.into_iter().map(|(_, entry)| entry).collect::<Vec<_>>()
        };
        let colours = self.colours.iter().map(|(key, value)| (vec![*key], vec![*key, *value])).collect();
        let ages = self.ages.iter().map(|(key, value)| {
            let key = key.to_le_bytes().to_vec();
            // What is between the two in a page is whatever was there before.
            let entry = [&key[..], &[0xee; 6], &value.to_le_bytes()].concat();
            (key, entry)
        });
        let seen = self.seen.iter().map(|key| (key.to_le_bytes().to_vec(), key.to_le_bytes().to_vec()));
        [
            self.bytes.iter().map(|bytes| bytes.to_vec()).collect(),
            in_order(colours, self.buckets[0]),
            in_order(ages.collect(), self.buckets[1]),
            in_order(seen.collect(), self.buckets[2]),
        ]
    }

    fn lengths(&self) -> [(u32, u32); 4] {
        let of_map = |length: usize, buckets: u32| if length == 0 { (0, 0) } else { (length as u32, buckets) };
        [
            (self.bytes.len() as u32, 0),
            of_map(self.colours.len(), self.buckets[0]),
            of_map(self.ages.len(), self.buckets[1]),
            of_map(self.seen.len(), self.buckets[2]),
        ]
    }

    /// The state, with roots that lead somewhere.
    fn state(&self) -> Vec<u8> {
        let mut words = Vec::new();
        for (number, (length, buckets)) in self.lengths().into_iter().enumerate() {
            words.push(0x1234_5678);
            words.extend((number != 0).then_some(buckets));
            words.push(length);
        }
        words.push(77);
        words.iter().flat_map(|word: &u32| word.to_le_bytes()).collect()
    }

    /// The pages, as a shard would send them.
    fn pages(&self, kind: &Kind) -> Vec<Page> {
        let mut pages = Vec::new();
        for (number, (collection, entries)) in kind.collections.iter().zip(self.entries()).enumerate() {
            let (_, buckets) = self.lengths()[number];
            let of_bucket = |bucket: u32| -> Vec<Vec<u8>> {
                let is_in = |entry: &&Vec<u8>| bucket_of(&entry[..collection.key as usize], buckets) == bucket;
                entries.iter().filter(is_in).cloned().collect()
            };
            let groups: Vec<Vec<Vec<u8>>> =
                if number == 0 { vec![entries.clone()] } else { (0..buckets).map(of_bucket).collect() };
            for group in groups {
                let mut chunks: Vec<&[Vec<u8>]> = group.chunks(collection.per_page as usize).collect();
                if chunks.is_empty() && number != 0 {
                    chunks.push(&[]);
                }
                for (hop, chunk) in chunks.into_iter().enumerate() {
                    let (count, bytes) = (chunk.len() as u32, chunk.concat());
                    pages.push(Page { collection: number as u32, is_further: number != 0 && hop != 0, count, bytes });
                }
            }
        }
        pages
    }
}

/// The pages without what is in the gaps of entries.
fn without_padding(kind: &Kind, pages: &[Page]) -> Vec<Page> {
    let mut pages = pages.to_vec();
    for page in &mut pages {
        let collection = &kind.collections[page.collection as usize];
        for entry in page.bytes.chunks_exact_mut(collection.stride as usize) {
            entry[collection.key as usize..collection.value_at as usize].fill(0);
            entry[(collection.value_at + collection.value) as usize..].fill(0);
        }
    }
    pages
}

proptest! {
    /// Through pieces to bytes, and back through pieces: the same pages, whatever they had in their gaps.
    #[test]
    fn what_was_kept_comes_back(contents in contents()) {
        let kind = cupboard();
        let (state, pages) = (contents.state(), contents.pages(&kind));
        let mut gathering = Gathering::new(5, &[]);
        let pieces = cut(&pages);
        for (number, (mark, chunks)) in pieces.iter().enumerate() {
            prop_assert!(!chunks.is_empty() && chunks.len() <= 336);
            prop_assert_eq!(gathering.add(&kind, *mark, chunks), Ok(number + 1 == pieces.len()));
        }
        prop_assert_eq!(&gathering.pages, &pages);
        let bytes = encode(&kind, &state, &gathering.pages).unwrap();
        prop_assert_eq!(bytes.is_empty(), pages.is_empty());
        let (back, needed) = decode(&kind, &bytes).unwrap();
        prop_assert_eq!(&back, &without_padding(&kind, &pages));
        let leaves = |number: u32| back.iter().filter(|page| page.collection == number && !page.is_further).count() as u32;
        let further = back.iter().filter(|page| page.is_further).count() as u64;
        prop_assert_eq!(u64::from(needed), (0..4).map(|number| tree_pages(leaves(number))).sum::<u64>() + further);
        // The same bytes again.
        prop_assert_eq!(encode(&kind, &state, &back).unwrap(), bytes);
    }

    /// Whatever bytes there are, decoding gives pages of this kind, within the bound, or an error.
    #[test]
    fn hostile_bytes_are_refused_or_are_pages(
        contents in contents(),
        changes in proptest::collection::vec((any::<usize>(), any::<u8>()), 0..6),
        end in any::<Option<usize>>(),
        noise in proptest::collection::vec(any::<u8>(), 0..80),
        is_noise in any::<bool>(),
    ) {
        let kind = cupboard();
        let mut bytes = encode(&kind, &contents.state(), &contents.pages(&kind)).unwrap();
        if is_noise || bytes.is_empty() {
            bytes = noise;
        } else {
            for (at, byte) in changes {
                let at = at % bytes.len();
                bytes[at] = byte;
            }
            if let Some(end) = end {
                bytes.truncate(end % (bytes.len() + 1));
            }
        }
        let Ok((pages, needed)) = decode(&kind, &bytes) else { return Ok(()) };
        prop_assert!(needed <= 2 * EVICTED_PAGES_MAX + 64);
        for page in &pages {
            let collection = &kind.collections[page.collection as usize];
            prop_assert!(page.count <= collection.per_page);
            prop_assert_eq!(page.bytes.len(), (page.count * collection.stride) as usize);
            prop_assert!(collection.sort == Sort::Map || (page.count != 0 && !page.is_further));
            if page.collection == 1 {
                prop_assert!(page.bytes.chunks_exact(2).all(|entry| matches!(entry[1], 1 | 2)));
            }
        }
        for number in 1..4 {
            let collection = &kind.collections[number as usize];
            let of_map = pages.iter().filter(|page| page.collection == number);
            let keys: Vec<&[u8]> = of_map
                .flat_map(|page| page.bytes.chunks_exact(collection.stride as usize))
                .map(|entry| &entry[..collection.key as usize])
                .collect();
            prop_assert_eq!(keys.iter().collect::<HashSet<_>>().len(), keys.len());
        }
    }

    /// Pieces that no shard sends are an error.
    #[test]
    fn hostile_pieces_are_refused(mark in any::<u32>(), chunks in proptest::collection::vec(any::<u8>(), 0..340)) {
        let kind = cupboard();
        let mut gathering = Gathering::new(1, &[]);
        if gathering.add(&kind, mark & 0xc000_0001, &chunks).is_ok() {
            for page in &gathering.pages {
                prop_assert!(page.count <= kind.collections[page.collection as usize].per_page);
            }
        }
    }
}

/// One element of the first collection, and a key of the second, with what stands in front of them.
fn small() -> (Contents, Vec<u8>) {
    let contents =
        Contents { bytes: vec![[1, 2, 3]], colours: vec![(9, 1)], ages: vec![], seen: vec![], buckets: [1, 1, 1] };
    let kind = cupboard();
    let bytes = encode(&kind, &contents.state(), &contents.pages(&kind)).unwrap();
    (contents, bytes)
}

#[test]
fn what_does_not_fit_is_named() {
    let (contents, bytes) = small();
    let kind = cupboard();
    assert_eq!(bytes.len(), 8 + 24 + 3 + 24 + 2);
    let changed = |at: usize, byte: u8| {
        let mut bytes = bytes.clone();
        bytes[at] ^= byte;
        decode(&kind, &bytes).unwrap_err()
    };
    assert!(matches!(changed(0, 3), CollectionsError::OtherFormat { actor: "Cupboard", found: 2 }));
    assert!(matches!(changed(8, 1), CollectionsError::UnknownField { actor: "Cupboard", .. }));
    assert!(matches!(changed(16, 1), CollectionsError::OtherLayout { field: "bytes", .. }));
    assert!(matches!(changed(28, 1), CollectionsError::Damaged { .. }), "a sequence in buckets");
    assert!(matches!(changed(27, 0x80), CollectionsError::TooLarge { .. }), "more than there can be");
    let invalid = CollectionsError::InvalidElement { actor: "Cupboard", field: "colours", index: 0 };
    assert_eq!(changed(8 + 24 + 3 + 24 + 1, 6), invalid);
    for error in [changed(0, 3), changed(8, 1), changed(16, 1), changed(28, 1), changed(27, 0x80), invalid] {
        let text = error.to_string();
        assert!(text.contains("Cupboard") && text.len() > 40, "{text}");
    }
    // A collection of the same name with other elements; and one that is not there.
    assert!(matches!(decode(&kind_of(902), &bytes), Err(CollectionsError::OtherLayout { field: "bytes", .. })));
    // Twice the same.
    let twice = [&[1, 0, 0, 0, 2, 0, 0, 0][..], &bytes[8..35], &bytes[8..35]].concat();
    assert!(matches!(decode(&kind, &twice), Err(CollectionsError::Damaged { .. })));
    // What a shard says does not agree with what it sends.
    let pages = contents.pages(&kind);
    for left in 0..pages.len() {
        assert!(matches!(encode(&kind, &contents.state(), &pages[..left]), Err(CollectionsError::Damaged { .. })));
    }
    assert!(matches!(encode(&kind, &[], &pages), Err(CollectionsError::Damaged { .. })));
    let mut gathering = Gathering::new(1, &[]);
    let broken = tourbillon_shared::virtual_actors::PIECE_BROKEN;
    assert_eq!(gathering.add(&kind, 1 | broken, &[]), Err(CollectionsError::Unreadable { actor: "Cupboard" }));
    assert!(matches!(gathering.add(&kind, 2, &[]), Err(CollectionsError::Damaged { .. })));
}

#[test]
fn keys_must_be_in_their_buckets_and_once() {
    let kind = cupboard();
    let keys: Vec<(u8, u8)> = (0..50).map(|key| (key, 1)).collect();
    let contents = Contents { bytes: vec![], colours: keys, ages: vec![], seen: vec![], buckets: [5, 1, 1] };
    let bytes = encode(&kind, &contents.state(), &contents.pages(&kind)).unwrap();
    assert!(decode(&kind, &bytes).is_ok());
    let swapped = |one: usize, two: usize| {
        let (mut bytes, first) = (bytes.clone(), 8 + 24);
        bytes.swap(first + 2 * one, first + 2 * two);
        decode(&kind, &bytes)
    };
    assert!(matches!(swapped(0, 49), Err(CollectionsError::Damaged { .. })));
    let mut twice = bytes.clone();
    twice[8 + 24 + 2] = twice[8 + 24];
    assert!(matches!(decode(&kind, &twice), Err(CollectionsError::Damaged { what: "a key is there twice", .. })));
}

#[test]
fn handles_are_emptied() {
    let (contents, _) = small();
    let mut state = contents.state();
    empty_handles(&cupboard(), &mut state);
    assert_eq!(state, [&[0; 44][..], &77u32.to_le_bytes()].concat());
    // A state that is too short is left alone.
    empty_handles(&cupboard(), &mut [1; 5]);
}
