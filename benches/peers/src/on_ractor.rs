//! ractor: `call`.

use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort, call};

use crate::on_tokio::Ask;
use crate::plan::Measured;
use crate::task::{Reply, Request, Tally};

/// A request and where its reply goes.
#[derive(Debug)]
struct Asked(Request, RpcReplyPort<Reply>);

/// The actor.
#[derive(Debug)]
struct Counting;

impl Actor for Counting {
    type Msg = Asked;
    type State = Tally;
    type Arguments = ();

    async fn pre_start(&self, _this: ActorRef<Asked>, (): ()) -> Result<Tally, ActorProcessingErr> {
        Ok(Tally::default())
    }

    async fn handle(
        &self,
        _this: ActorRef<Asked>,
        Asked(request, port): Asked,
        state: &mut Tally,
    ) -> Result<(), ActorProcessingErr> {
        // Fails when the asker is gone, which is none of the actor's concern.
        let _ = port.send(state.add(&request));
        Ok(())
    }
}

/// An actor of ractor; its mailbox has no bound.
#[derive(Clone, Debug)]
pub struct Ractor(ActorRef<Asked>);

impl Ask for Ractor {
    async fn start() -> Measured<Self> {
        let (actor, _ended) = Actor::spawn(None, Counting, ()).await?;
        Ok(Self(actor))
    }

    async fn ask(&self, request: Request) -> Measured<Reply> {
        Ok(call!(self.0, Asked, request)?)
    }

    async fn end(self) {
        let _ = self.0.stop_and_wait(None, None).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::on_tokio::{rate, round_trips};
    use crate::plan::tests::short;

    #[test]
    fn it_answers() {
        assert_eq!(round_trips::<Ractor>(&short(2)).unwrap().len(), 200);
        assert!(rate::<Ractor>(&short(4)).unwrap() > 0.0);
    }
}
