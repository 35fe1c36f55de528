//! Tourbillon: on CPU threads, and on a GPU.

use std::time::Duration;

use hdrhistogram::Histogram;
use tourbillon::actors::counter::{Add, Added};
use tourbillon::{Backend, Client, Engine, Pipeline, WaitStrategy};

use crate::plan::{Measured, Plan, Trips};
use crate::task::{Reply, Request};
use crate::threads::{AskingEnd, rate_over};

/// Longest wait for a reply: an engine that takes longer is broken.
const REPLY_TIME_MAX: Duration = Duration::from_secs(5);

/// An engine for so many pairs of threads: on the CPU one thread of each pair is the engine's.
fn engine(on_gpu: bool, pairs: u32) -> Measured<Engine> {
    let builder = Engine::builder().lanes(pairs).wait(WaitStrategy::Spin);
    let builder =
        if on_gpu { builder.backend(Backend::Cuda) } else { builder.backend(Backend::Cpu).cpu_threads(pairs) };
    Ok(builder.build()?)
}

fn client(engine: &Engine) -> Measured<Client> {
    let mut client = engine.client()?;
    client.set_timeout(Some(REPLY_TIME_MAX));
    Ok(client)
}

/// The name of the GPU that an engine would use.
pub fn gpu_name() -> Measured<String> {
    Ok(engine(true, 1)?.device_name().to_owned())
}

fn message(request: &Request) -> Add {
    Add { amount: request.amount, sender: request.sender, sequence: request.sequence }
}

fn answer(request: &Request, added: Added) -> Reply {
    request.reply(added.previous, added.last_sequence)
}

/// Round trips of one client, one at a time.
pub fn round_trips<const ON_GPU: bool>(plan: &Plan) -> Measured<Histogram<u64>> {
    let engine = engine(ON_GPU, 1)?;
    let mut client = client(&engine)?;
    Trips::new(plan).run(|request| Ok(answer(request, client.call(request.key, message(request))?)))
}

/// The rate of a client for each pair of threads.
pub fn rate<const ON_GPU: bool>(plan: &Plan) -> Measured<f64> {
    let engine = engine(ON_GPU, plan.pairs)?;
    let mut clients = (0..plan.pairs).map(|_| client(&engine)).collect::<Measured<Vec<_>>>()?;
    rate_over(plan, clients.iter_mut().map(|client| End(client.pipeline())).collect())
}

/// A client's end of its lane.
struct End<'c>(Pipeline<'c, Add>);

impl AskingEnd for End<'_> {
    fn try_send(&mut self, request: &Request) -> Measured<bool> {
        Ok(self.0.push(request.key, &message(request))?)
    }

    fn try_take(&mut self, request: &Request) -> Measured<Option<Reply>> {
        let Some(reply) = self.0.try_pop() else { return Ok(None) };
        Ok(Some(answer(request, reply?)))
    }

    fn take(&mut self, request: &Request) -> Measured<Reply> {
        let reply = self.0.pop().ok_or("nothing is outstanding")?;
        Ok(answer(request, reply?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::tests::short;

    #[test]
    fn it_answers() {
        assert_eq!(round_trips::<false>(&short(2)).unwrap().len(), 200);
        assert!(rate::<false>(&short(2)).unwrap() > 0.0);
    }
}
