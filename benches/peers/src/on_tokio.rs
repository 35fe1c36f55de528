//! What the actor libraries on tokio's runtime of several threads have in common.

use std::sync::Arc;
use std::time::Instant;

use hdrhistogram::Histogram;
use tokio::runtime::{Builder, Runtime};

use crate::plan::{Measured, Plan, Tallied, Trips};
use crate::task::{ACTORS, Asker, Reply, Request};

/// An actor as its library lets one ask it.
pub trait Ask: Clone + Send + Sync + 'static {
    /// Starts an actor on the runtime that this is called from.
    fn start() -> impl Future<Output = Measured<Self>> + Send;
    /// Asks it.
    fn ask(&self, request: Request) -> impl Future<Output = Measured<Reply>> + Send;
    /// Ends it.
    fn end(self) -> impl Future<Output = ()> + Send;
}

fn runtime(threads: u32) -> Measured<Runtime> {
    Ok(Builder::new_multi_thread().worker_threads(threads as usize).enable_time().build()?)
}

async fn start<A: Ask>() -> Measured<Arc<Vec<A>>> {
    let mut actors = Vec::new();
    for _ in 0..ACTORS {
        actors.push(A::start().await?);
    }
    Ok(Arc::new(actors))
}

async fn end<A: Ask>(actors: &[A]) {
    for actor in actors {
        actor.clone().end().await;
    }
}

fn actor<'a, A>(actors: &'a [A], request: &Request) -> Measured<&'a A> {
    actors.get(request.key as usize).ok_or_else(|| "a request to no actor".into())
}

/// Round trips of a task on a runtime with two threads, one at a time.
pub fn round_trips<A: Ask>(plan: &Plan) -> Measured<Histogram<u64>> {
    let mut trips = Trips::new(plan);
    let runtime = runtime(2)?;
    runtime.block_on(async {
        let actors = start::<A>().await?;
        let asked = Arc::clone(&actors);
        let task = async move {
            while let Some(request) = trips.next() {
                let actor = actor(&asked, &request)?;
                let begin = Instant::now();
                let reply = actor.ask(request).await?;
                trips.record(begin.elapsed(), &request, &reply)?;
            }
            Measured::Ok(trips.done())
        };
        let times = tokio::spawn(task).await?;
        end(&actors).await;
        times
    })
}

/// The rate of as many tasks as requests may be outstanding, each with one.
pub fn rate<A: Ask>(plan: &Plan) -> Measured<f64> {
    let runtime = runtime(plan.threads())?;
    let tallied = Arc::new(Tallied::new(plan.outstanding as usize));
    let actors = runtime.block_on(start::<A>())?;
    let task = |(number, asker)| runtime.spawn(stream(Arc::clone(&actors), asker, Arc::clone(&tallied), number));
    let tasks: Vec<_> = plan.sharing_askers().enumerate().map(task).collect();
    let rate = tallied.rate(plan.rate_time);
    runtime.block_on(async {
        for task in tasks {
            task.await??;
        }
        end(&actors).await;
        Ok(rate)
    })
}

async fn stream<A: Ask>(actors: Arc<Vec<A>>, mut asker: Asker, tallied: Arc<Tallied>, number: usize) -> Measured<()> {
    let mut replies = 0;
    while !tallied.is_over() {
        let request = asker.request();
        let reply = actor(&actors, &request)?.ask(request).await?;
        asker.check(&request, &reply)?;
        replies += 1;
        tallied.note(number, replies);
    }
    Ok(())
}
