//! One message to every living actor of a kind, from a client.

use tourbillon_device::{Actor, Message, NoError};
use tourbillon_shared::broadcast::{BROADCAST_KIND, broadcast_key};
use tourbillon_shared::frame::span_of_call;
use tourbillon_shared::header::{Flags, Header};

use crate::call_error::CallError;
use crate::client::Client;

impl Client {
    /// Sends `message` to every actor of its kind that lives, in all shards; returns when the engine has taken it on.
    ///
    /// An actor *lives* when the device has it: from its first message on, until it leaves for the store, where there is one. Each that
    /// lives from now until the broadcast has come to its place gets the message exactly once; one that begins, leaves or comes back
    /// meanwhile gets it once at most. Nobody waits for their replies. [`Engine::quiesce`](crate::Engine::quiesce) waits until all have
    /// handled it, the counter [`BroadcastLetters`](crate::Counter::BroadcastLetters) says how many were found. What this client sends
    /// later may come to an actor before the broadcast does.
    ///
    /// # Errors
    /// [`CallError::TooManyBroadcasts`] when as many are under way as may be: 64, fewer with a small `mailbox_capacity`.
    /// [`CallError::NoMailboxes`] where no actor of the system sends letters, [`CallError::UnknownKind`]; and what any call may say.
    pub fn broadcast<M: Message>(&mut self, message: &M) -> Result<(), CallError<NoError>> {
        if self.shared.geometry.mailbox_log2 == 0 {
            return Err(CallError::NoMailboxes);
        }
        // Nobody answers it: only its taking is acknowledged.
        let span = const { span_of_call(0, size_of::<M>(), 0, 0) };
        let header = Header {
            // Clients, and broadcasts of one, begin in different shards.
            key: broadcast_key(<M::Actor as Actor>::KIND, self.hlc()),
            kind: BROADCAST_KIND,
            message: M::NUMBER,
            hops: 0,
            length: size_of::<M>() as u16,
            flags: Flags::new(span, 0),
            hint: 0,
            hlc: 0,
        };
        self.publish(header, message.as_bytes())?;
        let taken = self.wait(self.timeout(), |port| port.try_take::<(), NoError>(span));
        match taken {
            Ok(reply) => reply,
            Err(ended) => {
                self.port.abandon_next();
                Err(ended.into())
            }
        }
    }
}
