//! Work that goes on from message to message, and may fail on the way.

use tourbillon::{ActorRef, Answered, Answers, AskError, Context, FailureCode, Handler, Plain, State, actor};

use crate::worker::{Ends, Job, Spoilt, Worker};

/// What a plodder has heard of one that was stopped.
pub const STOPPED: u64 = u64::MAX;
/// What it has heard of one that failed.
pub const FAILED: u64 = u64::MAX - 1;

/// Takes one step after the other, each in a message of its own, and gives its worker a job with each.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, State)]
pub struct Plodder {
    /// Steps that it has taken since it began.
    pub steps: u64,
    /// What it has heard of another one last.
    pub heard: u64,
    left: u32,
    fails_at: u32,
    ends: Ends,
    reserved: u32,
}

/// Goes so far.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
pub struct Walk {
    /// Steps to take.
    pub steps: u32,
    /// The step, from the beginning, at which it fails; 0 for none.
    pub fails_at: u32,
    /// How it fails there.
    pub ends: Ends,
}

/// A step.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
pub struct Pace {}

/// How far it is, in a question that takes the shortest letter.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
pub struct Stand {}

/// It fails, with an error of this code; its reply would be longer than the message.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
pub struct Trip {
    /// The code.
    pub code: u32,
}

/// Asks another one how far it is, or lets it trip without waiting for an answer.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
pub struct Meet {
    /// The other one.
    pub other: u64,
    /// Whether it trips.
    pub trips: u32,
    /// With this code.
    pub code: u32,
}

/// How far another one is.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Plain)]
pub struct Stood(Answered<Stand>);
impl Answers<Stand> for Stood {}

/// Shows the plodder.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
pub struct Whereabouts {}

impl Handler<Walk> for Plodder {
    type Reply = ();

    fn handle(&mut self, walk: &Walk, context: &mut Context) -> Result<(), Spoilt> {
        (self.left, self.fails_at, self.ends) = (walk.steps, walk.fails_at, walk.ends);
        context.go_on(&Pace {});
        Ok(())
    }
}

impl Handler<Pace> for Plodder {
    type Reply = ();

    fn handle(&mut self, pace: &Pace, context: &mut Context) -> Result<(), Spoilt> {
        if self.left == 0 {
            return Ok(());
        }
        (self.left, self.steps) = (self.left - 1, self.steps + 1);
        if self.steps == u64::from(self.fails_at) {
            match self.ends {
                Ends::Well => {}
                Ends::Panic => panic!("on demand"),
                Ends::Error => return Err(Spoilt { code: self.fails_at }),
            }
        }
        context.tell(ActorRef::<Worker>::new(context.key()), &Job::WELL);
        context.go_on(pace);
        Ok(())
    }
}

impl Handler<Stand> for Plodder {
    type Reply = u64;

    fn handle(&mut self, _message: &Stand, _context: &mut Context) -> Result<u64, Spoilt> {
        Ok(self.steps)
    }
}

impl Handler<Trip> for Plodder {
    type Reply = Plodder;

    fn handle(&mut self, trip: &Trip, _context: &mut Context) -> Result<Plodder, Spoilt> {
        Err(Spoilt { code: trip.code })
    }
}

impl Handler<Meet> for Plodder {
    type Reply = ();

    fn handle(&mut self, meet: &Meet, context: &mut Context) -> Result<(), Spoilt> {
        let other = ActorRef::<Self>::new(meet.other);
        if meet.trips == 0 {
            context.ask::<Stand, Stood>(other, &Stand {}, 0);
        } else {
            context.tell(other, &Trip { code: meet.code });
        }
        Ok(())
    }
}

impl Handler<Stood> for Plodder {
    type Reply = ();

    fn handle(&mut self, stood: &Stood, _context: &mut Context) -> Result<(), Spoilt> {
        self.heard = match stood.0.result() {
            Ok(steps) => steps,
            Err(AskError::Failed(FailureCode::Stopped)) => STOPPED,
            Err(_) => FAILED,
        };
        Ok(())
    }
}

impl Handler<Whereabouts> for Plodder {
    type Reply = Plodder;

    fn handle(&mut self, _message: &Whereabouts, _context: &mut Context) -> Result<Plodder, Spoilt> {
        Ok(*self)
    }
}

actor!(Plodder {
    kind: 1403,
    goes_on: true,
    supervised: true,
    error: Spoilt,
    messages: {
        #[outlined] 0: Walk, #[outlined] 1: Pace, #[outlined] 2: Stand, #[outlined] 3: Trip, #[outlined] 4: Meet,
        #[outlined] 5: Stood, #[outlined] 6: Whereabouts,
    },
});
