//! Two threads and something between them: what the channels and rings have in common.

use std::collections::VecDeque;

use hdrhistogram::Histogram;

use crate::plan::{Measured, Plan, Tallied, Trips};
use crate::task::{Asker, Reply, Request, Table};

/// The asker's end of whatever carries requests and replies.
pub trait AskingEnd: Send {
    /// Sends a request; whether there was room.
    fn try_send(&mut self, request: &Request) -> Measured<bool>;
    /// The reply to `request`, which is the oldest that is outstanding, if it has come.
    fn try_take(&mut self, request: &Request) -> Measured<Option<Reply>>;
    /// Waits for the reply to `request`, which is the oldest that is outstanding.
    fn take(&mut self, request: &Request) -> Measured<Reply>;

    /// Sends a request and waits for its reply.
    fn ask(&mut self, request: &Request) -> Measured<Reply> {
        while !self.try_send(request)? {
            std::hint::spin_loop();
        }
        self.take(request)
    }
}

/// The other end is gone.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the answering thread has ended")]
pub struct Abandoned;

/// Makes both ends between this thread and one that answers from the table; that thread ends when the asking end is
/// dropped.
pub type Connect<E> = fn(Table) -> E;

/// Round trips, one at a time.
pub fn round_trips<E: AskingEnd>(plan: &Plan, connect: Connect<E>) -> Measured<Histogram<u64>> {
    let mut end = connect(Table::of_pair(0, 1));
    Trips::new(plan).run(|request| end.ask(request))
}

/// The rate of all pairs together.
pub fn rate<E: AskingEnd>(plan: &Plan, connect: Connect<E>) -> Measured<f64> {
    let ends = (0..plan.pairs).map(|pair| connect(Table::of_pair(pair.into(), plan.pairs.into()))).collect();
    rate_over(plan, ends)
}

/// The rate over these ends, one a pair, each with a thread of its own.
pub fn rate_over<E: AskingEnd>(plan: &Plan, ends: Vec<E>) -> Measured<f64> {
    let tallied = Tallied::new(ends.len());
    std::thread::scope(|scope| {
        let tallied = &tallied;
        let stream = |(pair, mut end): (usize, E)| {
            let asker = plan.asker_of_pair(pair as u32);
            scope.spawn(move || stream(&mut end, asker, plan.outstanding_of_pair(), tallied, pair))
        };
        let threads: Vec<_> = ends.into_iter().enumerate().map(stream).collect();
        let rate = tallied.rate(plan.rate_time);
        for thread in threads {
            thread.join().map_err(|_| "an asking thread panicked")??;
        }
        Ok(rate)
    })
}

/// Keeps requests outstanding until it is over, then waits for the last replies.
fn stream(
    end: &mut impl AskingEnd,
    mut asker: Asker,
    outstanding: usize,
    tallied: &Tallied,
    number: usize,
) -> Measured<()> {
    let mut in_flight: VecDeque<Request> = VecDeque::with_capacity(outstanding);
    let mut unsent: Option<Request> = None;
    let mut replies = 0;
    loop {
        while !tallied.is_over() && in_flight.len() < outstanding {
            let request = unsent.take().unwrap_or_else(|| asker.request());
            if !end.try_send(&request)? {
                unsent = Some(request);
                break;
            }
            in_flight.push_back(request);
        }
        let Some(oldest) = in_flight.front() else {
            if tallied.is_over() {
                return Ok(());
            }
            continue;
        };
        let mut reply = end.take(oldest)?;
        // All that has come.
        loop {
            let Some(request) = in_flight.pop_front() else { return Err("a reply to nothing".into()) };
            asker.check(&request, &reply)?;
            replies += 1;
            let Some(next) = in_flight.front() else { break };
            match end.try_take(next)? {
                Some(come) => reply = come,
                None => break,
            }
        }
        tallied.note(number, replies);
    }
}

/// A thread that answers.
pub fn answer(work: impl FnOnce() + Send + 'static) {
    std::thread::spawn(work);
}

/// How often an end that spins looks whether the other is gone.
pub const SPINS_PER_CHECK: u32 = 1 << 14;

/// Spins until `look` finds something; nothing when `is_gone` says that nothing will come any more.
pub fn spin<T>(mut look: impl FnMut() -> Option<T>, is_gone: impl Fn() -> bool) -> Option<T> {
    loop {
        for _ in 0..SPINS_PER_CHECK {
            if let Some(found) = look() {
                return Some(found);
            }
            std::hint::spin_loop();
        }
        if is_gone() {
            // What came before it went.
            return look();
        }
    }
}

/// A function call in the place of a peer: what measuring and checking take by themselves.
#[derive(Debug)]
pub struct Direct {
    table: Table,
    answered: VecDeque<Reply>,
}

impl Direct {
    /// Actors that are called.
    pub fn connect(table: Table) -> Self {
        Self { table, answered: VecDeque::new() }
    }
}

impl AskingEnd for Direct {
    fn try_send(&mut self, request: &Request) -> Measured<bool> {
        self.answered.push_back(self.table.add(request));
        Ok(true)
    }

    fn try_take(&mut self, _request: &Request) -> Measured<Option<Reply>> {
        Ok(self.answered.pop_front())
    }

    fn take(&mut self, request: &Request) -> Measured<Reply> {
        self.try_take(request)?.ok_or_else(|| Abandoned.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::tests::short;

    #[test]
    fn calls_are_counted_and_checked() {
        assert_eq!(round_trips(&short(2), Direct::connect).unwrap().len(), 200);
        assert!(rate(&short(4), Direct::connect).unwrap() > 0.0);
    }

    #[test]
    fn a_wrong_reply_ends_the_rate() {
        let forgetful = |pair| Direct::connect(Table::of_pair(pair, 4));
        let error = rate_over(&short(4), vec![forgetful(0), forgetful(3)]).unwrap_err();
        assert!(error.to_string().contains("was answered with"), "{error}");
    }

    #[test]
    fn spinning_ends_when_the_other_end_is_gone() {
        assert_eq!(spin(|| None::<u32>, || true), None);
        assert_eq!(spin(|| Some(7), || true), Some(7));
    }
}
