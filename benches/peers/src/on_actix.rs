//! actix: `send`, to actors of the same thread and of another one.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use actix::{Actor, Addr, Arbiter, Context, Handler, Message, MessageResult, System};
use hdrhistogram::Histogram;

use crate::plan::{Measured, Plan, Tallied, Trips};
use crate::task::{ACTORS, Asker, Request, Tally};

impl Message for Request {
    type Result = crate::task::Reply;
}

/// The actor.
#[derive(Debug)]
struct Counting(Tally);

impl Actor for Counting {
    type Context = Context<Self>;
}

impl Handler<Request> for Counting {
    type Result = MessageResult<Request>;

    fn handle(&mut self, request: Request, _context: &mut Self::Context) -> Self::Result {
        MessageResult(self.0.add(&request))
    }
}

type Actors = Vec<Addr<Counting>>;

/// So many actors, with the library's mailbox of 16, on the thread of `arbiter` or, without one, on this.
fn start(arbiter: Option<&Arbiter>, count: u64) -> Actors {
    let start = |_| match arbiter {
        Some(arbiter) => Counting::start_in_arbiter(&arbiter.handle(), |_| Counting(Tally::default())),
        None => Counting(Tally::default()).start(),
    };
    (0..count).map(start).collect()
}

/// Round trips of a task, one at a time; with `APART` the actors are on another thread.
pub fn round_trips<const APART: bool>(plan: &Plan) -> Measured<Histogram<u64>> {
    let mut trips = Trips::new(plan);
    System::new().block_on(async {
        let arbiter = APART.then(Arbiter::new);
        let actors = start(arbiter.as_ref(), ACTORS);
        while let Some(request) = trips.next() {
            let actor = actors.get(request.key as usize).ok_or("a request to no actor")?;
            let begin = Instant::now();
            let reply = actor.send(request).await?;
            trips.record(begin.elapsed(), &request, &reply)?;
        }
        end(arbiter)?;
        Ok(trips.done())
    })
}

/// The rate of as many tasks as requests may be outstanding, each with one. With `APART` every pair of threads has one
/// for tasks and one for actors; otherwise one thread does everything.
pub fn rate<const APART: bool>(plan: &Plan) -> Measured<f64> {
    let pairs = if APART { plan.pairs as usize } else { 1 };
    let askers: Vec<_> = plan.sharing_askers().enumerate().collect();
    let tallied = Arc::new(Tallied::new(askers.len()));
    // Actor `a`, and all who ask it, are with pair `a % pairs`.
    let of_pair = |pair: usize| {
        let mine = |(number, _): &&(usize, Asker)| number % ACTORS as usize % pairs == pair;
        askers.iter().filter(mine).cloned().collect::<Vec<_>>()
    };
    std::thread::scope(|scope| {
        let thread = |pair| {
            let (askers, tallied) = (of_pair(pair), Arc::clone(&tallied));
            scope.spawn(move || System::new().block_on(stream_all::<APART>(askers, tallied)))
        };
        let threads: Vec<_> = (0..pairs).map(thread).collect();
        let rate = tallied.rate(plan.rate_time);
        for thread in threads {
            thread.join().map_err(|_| "an asking thread panicked")??;
        }
        Ok(rate)
    })
}

async fn stream_all<const APART: bool>(askers: Vec<(usize, Asker)>, tallied: Arc<Tallied>) -> Measured<()> {
    let arbiter = APART.then(Arbiter::new);
    let actors = Rc::new(start(arbiter.as_ref(), ACTORS));
    let task = |(number, asker)| actix::spawn(stream(Rc::clone(&actors), asker, Arc::clone(&tallied), number));
    let tasks: Vec<_> = askers.into_iter().map(task).collect();
    for task in tasks {
        task.await??;
    }
    end(arbiter)
}

async fn stream(actors: Rc<Actors>, mut asker: Asker, tallied: Arc<Tallied>, number: usize) -> Measured<()> {
    let mut replies = 0;
    while !tallied.is_over() {
        let request = asker.request();
        let reply = actors.get(request.key as usize).ok_or("a request to no actor")?.send(request).await?;
        asker.check(&request, &reply)?;
        replies += 1;
        tallied.note(number, replies);
    }
    Ok(())
}

/// Ends the thread of the actors.
fn end(arbiter: Option<Arbiter>) -> Measured<()> {
    let Some(arbiter) = arbiter else { return Ok(()) };
    arbiter.stop();
    arbiter.join().map_err(|_| "the actors' thread panicked".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::tests::short;

    #[test]
    fn it_answers() {
        assert_eq!(round_trips::<true>(&short(2)).unwrap().len(), 200);
        assert_eq!(round_trips::<false>(&short(2)).unwrap().len(), 200);
        assert!(rate::<true>(&short(4)).unwrap() > 0.0);
        assert!(rate::<false>(&short(2)).unwrap() > 0.0);
    }
}
