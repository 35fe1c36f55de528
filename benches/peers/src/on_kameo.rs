//! kameo: `ask`.

use kameo::Actor;
use kameo::actor::{ActorRef, Spawn};
use kameo::error::Infallible;
use kameo::message::{Context, Message};

use crate::on_tokio::Ask;
use crate::plan::Measured;
use crate::task::{Reply, Request, Tally};

/// The actor.
#[derive(Debug)]
struct Counting(Tally);

impl Actor for Counting {
    type Args = Self;
    type Error = Infallible;

    async fn on_start(state: Self, _this: ActorRef<Self>) -> Result<Self, Infallible> {
        Ok(state)
    }
}

impl Message<Request> for Counting {
    type Reply = Result<Reply, Infallible>;

    async fn handle(&mut self, request: Request, _context: &mut Context<Self, Self::Reply>) -> Self::Reply {
        Ok(self.0.add(&request))
    }
}

/// An actor of kameo, with the library's mailbox of 64.
#[derive(Clone, Debug)]
pub struct Kameo(ActorRef<Counting>);

impl Ask for Kameo {
    async fn start() -> Measured<Self> {
        Ok(Self(Counting::spawn(Counting(Tally::default()))))
    }

    async fn ask(&self, request: Request) -> Measured<Reply> {
        Ok(self.0.ask(request).await?)
    }

    async fn end(self) {
        self.0.kill();
        self.0.wait_for_shutdown().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::on_tokio::{rate, round_trips};
    use crate::plan::tests::short;

    #[test]
    fn it_answers() {
        assert_eq!(round_trips::<Kameo>(&short(2)).unwrap().len(), 200);
        assert!(rate::<Kameo>(&short(4)).unwrap() > 0.0);
    }
}
