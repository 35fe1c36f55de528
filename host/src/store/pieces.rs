//! Pages of collections in frames: [`tourbillon_shared::virtual_actors`] says how.

use tourbillon_device::Kind;
use tourbillon_shared::virtual_actors::{
    CHUNK_WORDS, EVICTED_PAGES_MAX, PIECE_BROKEN, PIECE_LAST, PIECE_NUMBER, PIECE_WORDS, chunk_head, chunk_of,
};

use super::collections::{CollectionsError, Page};

/// Most pages that a shard may send: each bucket of a map has one, and the bound holds for them and further ones together.
const PAGES_MAX: usize = 2 * EVICTED_PAGES_MAX as usize;

/// An actor whose pages come from a shard.
#[derive(Debug)]
pub(super) struct Gathering {
    /// Number of the request.
    pub(super) number: u32,
    /// The actor's entry.
    pub(super) entry: Vec<u8>,
    /// Pages that have come.
    pub(super) pages: Vec<Page>,
    /// Number of the last piece.
    last: u32,
}

impl Gathering {
    /// Of request `number`, with the actor's entry.
    pub(super) fn new(number: u32, entry: &[u8]) -> Self {
        Self { number, entry: entry.to_vec(), pages: Vec::new(), last: 0 }
    }

    /// Adds the chunks of a piece, `mark` being word 3 of its frame; whether it was the last.
    ///
    /// # Errors
    /// [`CollectionsError`] where it is not what should have come.
    pub(super) fn add(&mut self, kind: &Kind, mark: u32, chunks: &[u8]) -> Result<bool, CollectionsError> {
        let damaged = |what| CollectionsError::Damaged { actor: kind.name, what };
        if mark & PIECE_BROKEN != 0 {
            return Err(CollectionsError::Unreadable { actor: kind.name });
        }
        if mark & PIECE_NUMBER != self.last + 1 {
            return Err(damaged("a piece came out of order"));
        }
        self.last += 1;
        let mut rest = chunks;
        while let Some((head, behind)) = rest.split_at_checked(CHUNK_WORDS as usize * 4) {
            let word = |at: usize| u32::from_le_bytes(head[at..at + 4].try_into().unwrap_or_default());
            let ((number, is_further), count) = (chunk_of(word(0)), word(4));
            let collection = kind.collections.get(number as usize).ok_or(damaged("a piece is of no collection"))?;
            if count > collection.per_page || self.pages.len() == PAGES_MAX {
                return Err(damaged("there is more in a piece than in pages"));
            }
            let length = (count * collection.stride) as usize;
            let (bytes, behind) =
                behind.split_at_checked(length.next_multiple_of(4)).ok_or(damaged("a piece ends too early"))?;
            let bytes = bytes[..length].to_vec();
            self.pages.push(Page { collection: number, is_further, count, bytes });
            rest = behind;
        }
        Ok(mark & PIECE_LAST != 0)
    }
}

/// Pages as the chunks of pieces, each with what word 3 of its frame is.
pub(super) fn cut(pages: &[Page]) -> Vec<(u32, Vec<u8>)> {
    let mut pieces: Vec<(u32, Vec<u8>)> = Vec::new();
    for page in pages {
        let bytes = page.bytes.len().next_multiple_of(4);
        let needs = CHUNK_WORDS as usize * 4 + bytes;
        let has_room = pieces.last().is_some_and(|(_, chunks)| chunks.len() + needs <= PIECE_WORDS * 4);
        if !has_room {
            pieces.push((pieces.len() as u32 + 1, Vec::new()));
        }
        let Some((_, chunks)) = pieces.last_mut() else { continue };
        chunks.extend_from_slice(&chunk_head(page.collection, page.is_further).to_le_bytes());
        chunks.extend_from_slice(&page.count.to_le_bytes());
        chunks.extend_from_slice(&page.bytes);
        chunks.resize(chunks.len() + bytes - page.bytes.len(), 0);
    }
    if let Some((mark, _)) = pieces.last_mut() {
        *mark |= PIECE_LAST;
    }
    pieces
}
