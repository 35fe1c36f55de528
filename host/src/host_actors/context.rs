//! What a handler of a host actor may know and do.

use std::time::Duration;

use tourbillon_device::{Actor, ErrorOf, Message, ReplyOf};
use tourbillon_shared::virtual_actors::kind_of;

use crate::call_error::{CallError, SendError};
use crate::client::Client;
use crate::keys::Key;

/// Why a question of a host actor has no reply. `E` is the error of the actor that was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HostAskError<E> {
    /// The actor asks itself, which it could never answer: it handles one message at a time.
    #[error("a host actor that asks itself waits for ever; call the code, or tell it")]
    Itself,
    /// The call failed.
    #[error(transparent)]
    Call(#[from] CallError<E>),
}

/// What a handler of a host actor may know and do beside its own state. It is for actors of the device and of the host alike.
#[derive(Debug)]
pub struct HostContext<'a> {
    client: &'a mut Client,
    kind: u16,
    key: Key,
    hlc: u64,
    waits: bool,
    pub(super) has_told: bool,
    pub(super) retires: bool,
}

impl<'a> HostContext<'a> {
    pub(super) fn new(client: &'a mut Client, kind: u16, key: Key, hlc: u64, waits: bool, ask_time: Duration) -> Self {
        client.set_timeout(Some(ask_time));
        // What is sent from here is later than the message.
        client.observe(hlc);
        Self { client, kind: kind_of(kind), key, hlc, waits, has_told: false, retires: false }
    }

    /// The actor's key.
    pub fn key(&self) -> Key {
        self.key
    }

    /// The timestamp ([`tourbillon_shared::hlc`]) at which the message was handed over.
    pub fn hlc(&self) -> u64 {
        self.hlc
    }

    /// Whether somebody waits for the answer.
    pub fn is_question(&self) -> bool {
        self.waits
    }

    /// Tells an actor something: nobody waits for an answer. What one host actor tells another actor comes in that order. It is sent at
    /// once, also when the handler then fails; what fails is counted and is a dead letter, as of any client.
    ///
    /// # Errors
    /// [`SendError`]: it was not sent.
    pub fn tell<M: Message>(&mut self, to: impl Into<Key>, message: M) -> Result<(), SendError> {
        self.has_told = true;
        self.client.send(to, message)
    }

    /// Asks an actor, and waits for its reply, for [`ask_time`](super::HostActorsBuilder::ask_time) at most. Meanwhile this thread runs no
    /// other actor: when all threads wait for host actors, none of those is run, until the first is out of time.
    ///
    /// # Errors
    /// [`HostAskError`].
    pub fn ask<M: Message>(&mut self, to: impl Into<Key>, message: M) -> Result<ReplyOf<M>, HostAskError<ErrorOf<M>>> {
        let to = to.into();
        if <M::Actor as Actor>::KIND == self.kind && to == self.key && !tourbillon_shared::mutant!("host_asks_itself") {
            return Err(HostAskError::Itself);
        }
        Ok(self.client.call(to, message)?)
    }

    /// Ends the actor after this message: its state is dropped, and the next message begins a new one.
    pub fn retire(&mut self) {
        self.retires = true;
    }
}
