//! What a handler says of a letter.

/// To whom a letter goes and what it is, as its sender says it; the default asks nothing and hands nothing on.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Post {
    pub key: u64,
    pub kind: u16,
    pub message: u8,
    /// For a question: bytes of the answer, ...
    pub answer_bytes: u16,
    /// ... as which message it comes, to which kind, ...
    pub answer_as: Option<(u8, u16)>,
    /// ... and what comes back with it.
    pub token: u32,
    /// The timestamp after which the letter is worthless; 0 for none.
    pub deadline: u64,
    /// Slots that the reply takes, which is written over the letter where somebody reads it: at most those of a frame.
    pub reply_slots: u32,
    /// Whether the letter takes over the duty to answer.
    pub hands_on: bool,
    /// Whether the actor goes on by it: it asks nothing, and is never lost for want of room.
    pub goes_on: bool,
    /// Whether it is an order to a child ([`tourbillon_shared::supervision`]).
    pub is_order: bool,
}
