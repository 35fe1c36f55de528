//! Calls and sends with options, and the second lane of a client that has urgent messages.
//!
//! The two priorities are two lanes: a request ring and a reply ring each. A lane keeps its order, and gates look at all lanes in
//! turns, so what is urgent passes everything that waits in the other lane, in its staging queue and for room in the rings of
//! shards, of which each keeps some for urgent frames alone. It does not pass what its gate has handed to its shard already.

use std::sync::Arc;

use tourbillon_device::{ErrorOf, Message, ReplyOf};
use tourbillon_shared::header::Flags;
use tourbillon_shared::mutant;

use crate::call_error::{CallError, SendError};
use crate::client::Client;
use crate::error::EngineError;
use crate::keys::Key;
use crate::lane::Lane;
use crate::options::{Answer, OptionedRequest, Options, answer_of};
use crate::port::Port;

impl Client {
    /// As [`call`](Self::call), with [`Options`]: a deadline, an id, the version that the actor must have, a higher priority. The answer
    /// tells the actor's version.
    ///
    /// Options take up to 32 bytes of the frame; a message that then does not fit is not sent. They do not go with payloads in
    /// the arena.
    ///
    /// # Errors
    /// As for [`call`](Self::call), and [`CallError::DeadlinePassed`], [`CallError::Duplicate`], [`CallError::StaleVersion`],
    /// [`CallError::PayloadTooLarge`], [`CallError::NoUrgentLane`].
    pub fn call_with<M: Message>(
        &mut self,
        key: impl Into<Key>,
        message: M,
        options: Options,
    ) -> Result<Answer<ReplyOf<M>>, CallError<ErrorOf<M>>> {
        let mut options = options;
        let correlation = options.correlate();
        let request = options.request(key.into(), &message, 0)?;
        let call = |client: &mut Self| client.call_request::<M>(&request, correlation);
        if !is_urgent(&request) {
            return call(self);
        }
        self.open_urgent()?;
        self.with_urgent(call).unwrap_or(Err(CallError::InvalidReply))
    }

    fn call_request<M: Message>(
        &mut self,
        request: &OptionedRequest,
        correlation: u64,
    ) -> Result<Answer<ReplyOf<M>>, CallError<ErrorOf<M>>> {
        self.publish(request.header, request.body())?;
        match self.wait(self.timeout(), Port::try_take_answer::<ReplyOf<M>, ErrorOf<M>>) {
            Ok(taken) => {
                let answer = taken.and_then(|(value, header)| answer_of(value, &header, correlation));
                answer.map_err(CallError::named::<M>)
            }
            Err(ended) => {
                self.port.abandon_next();
                Err(ended.into())
            }
        }
    }

    /// As [`send`](Self::send), with [`Options`]. What the device refuses is counted among the tells that failed, and is a dead letter
    /// ([`Engine::dead_letters`](crate::Engine::dead_letters)) unless it was a repeated one.
    ///
    /// # Errors
    /// As for [`send`](Self::send), and [`SendError::PayloadTooLarge`], [`SendError::NoUrgentLane`].
    pub fn send_with<M: Message>(
        &mut self,
        key: impl Into<Key>,
        message: M,
        options: Options,
    ) -> Result<(), SendError> {
        let request = options.request(key.into(), &message, Flags::TELL)?;
        let send = |client: &mut Self| client.tell(request.header, request.body());
        if !is_urgent(&request) {
            return send(self);
        }
        self.open_urgent()?;
        self.with_urgent(send).unwrap_or(Ok(()))
    }

    /// The lane of the client's urgent messages. The first of those takes it, and this does so before: until the gates know of the lane
    /// some tens of microseconds pass. The client keeps it until it is dropped.
    ///
    /// # Errors
    /// [`EngineError::NoFreeLane`], [`EngineError::Stopped`].
    pub fn urgent_lane(&mut self) -> Result<&Lane, EngineError> {
        if self.urgent.is_none() {
            if !self.shared.status.is_open() {
                return Err(self.shared.stopped());
            }
            let lane = self.shared.lanes.take(&self.shared.control)?;
            self.shared.ring();
            let mut port = Port::new(lane, self.shared.doorbell.clone());
            port.set_staging_bound(self.port.staging_bound());
            self.urgent = Some(Box::new(port));
        }
        Ok(self.urgent.as_ref().map_or(self.port.lane(), |urgent| urgent.lane()))
    }

    fn open_urgent(&mut self) -> Result<(), SendError> {
        let shared = Arc::clone(&self.shared);
        self.urgent_lane().map(|_| ()).map_err(|error| match error {
            EngineError::NoFreeLane { lanes, .. } => SendError::NoUrgentLane { lanes },
            _ => SendError::EngineStopped { reason: shared.status.reason() },
        })
    }

    /// Does something by the lane of urgent messages; nothing if there is none.
    ///
    /// The two lanes change places meanwhile, which leaves both whole should a message's check of its own bits panic.
    pub(crate) fn with_urgent<T>(&mut self, act: impl FnOnce(&mut Self) -> T) -> Option<T> {
        if mutant!("urgent_by_the_other_lane") {
            return Some(act(self));
        }
        self.change_lanes()?;
        let done = act(self);
        self.change_lanes();
        Some(done)
    }

    fn change_lanes(&mut self) -> Option<()> {
        let urgent = self.urgent.as_mut()?;
        // What is sent by either lane is later than what was seen by the other.
        let seen = self.port.hlc();
        if seen > urgent.hlc() {
            urgent.observe(seen);
        }
        std::mem::swap(&mut self.port, urgent);
        Some(())
    }
}

fn is_urgent(request: &OptionedRequest) -> bool {
    request.header.flags.has(Flags::URGENT)
}
