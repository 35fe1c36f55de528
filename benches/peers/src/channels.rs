//! crossbeam channels, blocking and spinning, and rtrb rings.

use crossbeam_channel::{Receiver, RecvError, Sender, TryRecvError, TrySendError, bounded};

use crate::plan::{CAPACITY, Measured};
use crate::task::{Reply, Request, Table};
use crate::threads::{Abandoned, AskingEnd, answer, spin};

/// A pair of bounded crossbeam channels; `SPINS`: whether both ends look again and again in place of blocking.
#[derive(Debug)]
pub struct Crossbeam<const SPINS: bool> {
    requests: Sender<Request>,
    replies: Receiver<Reply>,
}

impl<const SPINS: bool> Crossbeam<SPINS> {
    /// Both ends.
    pub fn connect(mut table: Table) -> Self {
        let (requests, received) = bounded(CAPACITY);
        let (answered, replies) = bounded(CAPACITY);
        answer(move || {
            while let Some(request) = receive::<_, SPINS>(&received) {
                // The channel holds more than is ever outstanding.
                if answered.send(table.add(&request)).is_err() {
                    return;
                }
            }
        });
        Self { requests, replies }
    }
}

/// The next message; nothing when the other end is gone.
fn receive<T, const SPINS: bool>(channel: &Receiver<T>) -> Option<T> {
    if !SPINS {
        return channel.recv().ok();
    }
    loop {
        match channel.try_recv() {
            Ok(message) => return Some(message),
            Err(TryRecvError::Disconnected) => return None,
            Err(TryRecvError::Empty) => std::hint::spin_loop(),
        }
    }
}

impl<const SPINS: bool> AskingEnd for Crossbeam<SPINS> {
    fn try_send(&mut self, request: &Request) -> Measured<bool> {
        match self.requests.try_send(*request) {
            Ok(()) => Ok(true),
            Err(TrySendError::Full(_)) => Ok(false),
            Err(TrySendError::Disconnected(_)) => Err(Abandoned.into()),
        }
    }

    fn try_take(&mut self, _request: &Request) -> Measured<Option<Reply>> {
        match self.replies.try_recv() {
            Ok(reply) => Ok(Some(reply)),
            Err(TryRecvError::Empty) => Ok(None),
            Err(TryRecvError::Disconnected) => Err(RecvError.into()),
        }
    }

    fn take(&mut self, _request: &Request) -> Measured<Reply> {
        receive::<_, SPINS>(&self.replies).ok_or_else(|| Abandoned.into())
    }
}

/// A pair of rtrb rings; both ends spin.
#[derive(Debug)]
pub struct Rtrb {
    requests: rtrb::Producer<Request>,
    replies: rtrb::Consumer<Reply>,
}

impl Rtrb {
    /// Both ends.
    pub fn connect(mut table: Table) -> Self {
        let (requests, mut received) = rtrb::RingBuffer::new(CAPACITY);
        let (mut answered, replies) = rtrb::RingBuffer::new(CAPACITY);
        answer(move || {
            while let Some(request) = pop(&mut received) {
                // The ring holds more than is ever outstanding.
                if answered.push(table.add(&request)).is_err() {
                    return;
                }
            }
        });
        Self { requests, replies }
    }
}

/// The next message; nothing when the other end is gone.
fn pop<T>(ring: &mut rtrb::Consumer<T>) -> Option<T> {
    let ring = std::cell::RefCell::new(ring);
    spin(|| ring.borrow_mut().pop().ok(), || ring.borrow().is_abandoned())
}

impl AskingEnd for Rtrb {
    fn try_send(&mut self, request: &Request) -> Measured<bool> {
        Ok(self.requests.push(*request).is_ok())
    }

    fn try_take(&mut self, _request: &Request) -> Measured<Option<Reply>> {
        Ok(self.replies.pop().ok())
    }

    fn take(&mut self, _request: &Request) -> Measured<Reply> {
        pop(&mut self.replies).ok_or_else(|| Abandoned.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::tests::short;
    use crate::threads::{Connect, rate, round_trips};

    fn works<E: AskingEnd>(connect: Connect<E>) {
        assert_eq!(round_trips(&short(2), connect).unwrap().len(), 200);
        assert!(rate(&short(4), connect).unwrap() > 0.0);
    }

    #[test]
    fn channels_and_rings_answer() {
        works(Crossbeam::<false>::connect);
        works(Crossbeam::<true>::connect);
        works(Rtrb::connect);
    }

    #[test]
    fn an_end_that_is_gone_is_noticed() {
        let (sender, receiver) = bounded::<Request>(1);
        drop(sender);
        assert!(receive::<_, false>(&receiver).is_none() && receive::<_, true>(&receiver).is_none());
        let (producer, mut consumer) = rtrb::RingBuffer::<Request>::new(1);
        drop(producer);
        assert!(pop(&mut consumer).is_none());
    }
}
