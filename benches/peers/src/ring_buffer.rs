//! A disruptor in each direction; both ends spin.

use disruptor::{
    BusySpin, EventPoller, Polling, Producer, SingleConsumerBarrier, SingleProducer, SingleProducerBarrier,
    build_single_producer,
};

use crate::plan::{CAPACITY, Measured};
use crate::task::{Reply, Request, Table};
use crate::threads::{Abandoned, AskingEnd};

/// The asking end.
pub struct Disruptor {
    requests: SingleProducer<Request, SingleConsumerBarrier>,
    replies: EventPoller<Reply, SingleProducerBarrier>,
}

impl std::fmt::Debug for Disruptor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Disruptor").finish_non_exhaustive()
    }
}

impl Disruptor {
    /// Both ends; the answering thread is the library's own.
    pub fn connect(mut table: Table) -> Self {
        let (replies, builder) = build_single_producer(CAPACITY, Reply::default, BusySpin).new_event_poller();
        let mut answered = builder.build();
        let handle = move |request: &Request, _sequence, _end_of_batch| {
            let reply = table.add(request);
            answered.publish(|place| *place = reply);
        };
        let requests = build_single_producer(CAPACITY, Request::default, BusySpin).handle_events_with(handle).build();
        Self { requests, replies }
    }
}

impl AskingEnd for Disruptor {
    fn try_send(&mut self, request: &Request) -> Measured<bool> {
        Ok(self.requests.try_publish(|place| *place = *request).is_ok())
    }

    fn try_take(&mut self, _request: &Request) -> Measured<Option<Reply>> {
        match self.replies.take(1) {
            Ok(mut events) => Ok((&mut events).next().copied()),
            Err(Polling::NoEvents) => Ok(None),
            Err(Polling::Shutdown) => Err(Abandoned.into()),
        }
    }

    fn take(&mut self, request: &Request) -> Measured<Reply> {
        loop {
            if let Some(reply) = self.try_take(request)? {
                return Ok(reply);
            }
            std::hint::spin_loop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::tests::short;
    use crate::threads::{rate, round_trips};

    #[test]
    fn it_answers() {
        assert_eq!(round_trips(&short(2), Disruptor::connect).unwrap().len(), 200);
        assert!(rate(&short(4), Disruptor::connect).unwrap() > 0.0);
    }
}
