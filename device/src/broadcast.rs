//! One message to every living actor of a kind, from a handler.

use tourbillon_shared::broadcast::BROADCAST_KIND;

use crate::actor::{Actor, Message};
use crate::context::Context;
use crate::mailbox::{self, Post};

impl Context {
    /// Sends a message to every actor of its kind that lives, in all shards, this one included if it is of the kind. Nobody waits for
    /// answers.
    ///
    /// An actor *lives* when the device has it: from its first message on, until it leaves for the store, where there is one. Each that
    /// lives from now until the broadcast has come to its place gets the message exactly once; one that begins, leaves or comes back
    /// meanwhile gets it once at most, and one that is in the store does not. It is sent when the handler has succeeded, never when it
    /// fails or panics, and counts as one of the message's letters. There is no order between a broadcast and other letters of the same
    /// sender.
    ///
    /// When too many broadcasts are under way in the engine (64, fewer with `mailbox_capacity` below 512), the message whose handler this
    /// is fails with [`TooManyBroadcasts`](tourbillon_shared::error::FailureCode::TooManyBroadcasts) and leaves no trace.
    #[inline]
    pub fn broadcast<M: Message>(&mut self, message: &M) {
        let index = self.count_letter();
        if self.near.is_null() {
            return;
        }
        let kind = <M::Actor as Actor>::KIND;
        let post = Post { key: kind.into(), kind: BROADCAST_KIND, message: M::NUMBER, ..Post::default() };
        // SAFETY: the engine told of the desk, the place and the lane; a message fits into a frame.
        unsafe { mailbox::store(self.outgoing(), index, &post, self.key, message.as_bytes()) };
    }
}
