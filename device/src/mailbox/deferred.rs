//! Answers that come later than the handler of their message returns: letters that have its duty to answer.

use tourbillon_shared::frame::slots_for;
use tourbillon_shared::header::{Flags, HEADER_WORDS, ReturnAddress};
use tourbillon_shared::host_actors::{DELIVER, Duty};
use tourbillon_shared::mailbox::{LETTERS_MAX, LetterHint, SENDER_WORDS};

use super::letter::{store, write_bytes};
use super::outgoing::{Outgoing, OutgoingOf, SHAPE};
use super::post::Post;

/// Writes letter `index` of a handler, by which an answer comes to its `duty`: to the actor `key` of the kind word `kind`, as its message
/// [`DELIVER`]. Running it answers in the place of the message whose duty it is.
///
/// # Safety
/// As for [`store`].
#[inline(never)]
pub(crate) unsafe fn store_answer(
    outgoing: OutgoingOf,
    index: u32,
    duty: &Duty,
    (kind, key): (u16, u64),
    bytes: &[u8],
) {
    let post = Post { key, kind, message: DELIVER, ..Post::default() };
    // SAFETY: the caller vouches for it; the letter is this lane's, and has room for a frame.
    unsafe {
        let desk = &*outgoing.desk;
        if index >= LETTERS_MAX || desk.letters == 0 {
            return;
        }
        store(outgoing, index, &post, key, &[]);
        let letter = Outgoing::at(desk, outgoing.near, outgoing.lane, index);
        let mut at = HEADER_WORDS;
        let (role, reply) = match LetterHint::decode(duty.hint) {
            Some(_) => {
                let sender = duty.sender.encode();
                let mut i = 0;
                while i < SENDER_WORDS {
                    letter.set(at.wrapping_add(i), *sender.get_unchecked(i));
                    i = i.wrapping_add(1);
                }
                at = at.wrapping_add(SENDER_WORDS);
                (Flags::SENDER, 0)
            }
            None => (0, u32::from(ReturnAddress::decode(duty.hint).span)),
        };
        let span = slots_for(Flags(role).extension_words(), bytes.len()).max(reply);
        letter.set(SHAPE, bytes.len() as u32 | u32::from(Flags::new(span, role).0) << 16);
        letter.set(4, duty.hint as u32);
        letter.set(5, (duty.hint >> 32) as u32);
        write_bytes(letter, at, bytes);
    }
}
