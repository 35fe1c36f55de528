//! Work that may fail.

use tourbillon::{
    ActorRef, Answered, Answers, AskError, Context, FailureCode, Handler, NoError, Plain, PoolError, PoolVec, State,
    actor,
};

/// Does work, remembers it, and fails on demand.
#[repr(C)]
#[derive(Clone, Copy, Debug, State)]
pub struct Worker {
    /// Jobs that were done since it began.
    pub done: u64,
    /// What its activation made of its key: what it has from the beginning.
    pub badge: u64,
    /// The jobs.
    jobs: PoolVec<u64>,
}

/// What a worker has from its activation on.
pub const fn badge_of(key: u64) -> u64 {
    key.wrapping_mul(3).wrapping_add(7)
}

/// How a job ends.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Plain)]
pub enum Ends {
    /// Well.
    Well = 0,
    /// With a panic.
    Panic = 1,
    /// With the typed error.
    Error = 2,
}

/// A job.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
pub struct Job {
    /// How it ends.
    pub ends: Ends,
    /// Code of the error, if it ends with one.
    pub code: u32,
}

impl Job {
    /// One that ends well.
    pub const WELL: Self = Self { ends: Ends::Well, code: 0 };
    /// One that ends with a panic.
    pub const PANIC: Self = Self { ends: Ends::Panic, code: 0 };
}

/// What a worker shows of itself.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
pub struct Look {}

/// How a worker is.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
pub struct Looks {
    /// Jobs that were done since it began.
    pub done: u64,
    /// What it has from its activation.
    pub badge: u64,
    /// Jobs that are remembered.
    pub remembered: u64,
}

/// The typed error of a job.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
pub struct Spoilt {
    /// The code.
    pub code: u32,
}

impl core::fmt::Display for Spoilt {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "spoilt on demand with code {}", self.code)
    }
}

impl core::error::Error for Spoilt {}

/// The engine answers with the pool's failure in place of this value.
impl From<PoolError> for Spoilt {
    fn from(_: PoolError) -> Self {
        Self { code: 0 }
    }
}

impl Handler<Job> for Worker {
    /// Jobs that were done since it began, this one included.
    type Reply = u64;

    fn handle(&mut self, job: &Job, context: &mut Context) -> Result<u64, Spoilt> {
        // What a failure leaves behind would be seen.
        self.done += 1;
        self.jobs.push(context, self.done)?;
        match job.ends {
            Ends::Well => Ok(self.done),
            Ends::Panic => panic!("on demand"),
            Ends::Error => Err(Spoilt { code: job.code }),
        }
    }
}

impl Handler<Look> for Worker {
    type Reply = Looks;

    fn handle(&mut self, _message: &Look, _context: &mut Context) -> Result<Looks, Spoilt> {
        Ok(Looks { done: self.done, badge: self.badge, remembered: self.jobs.len().into() })
    }
}

actor!(Worker {
    kind: 1401,
    pools: true,
    supervised: true,
    error: Spoilt,
    messages: { #[outlined] 0: Job, #[outlined] 1: Look },
    activate: |key| Worker { done: 0, badge: badge_of(key), jobs: PoolVec::new() },
});

/// Hands jobs to workers, and counts what came of them. Nobody supervises it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, State)]
pub struct Clerk {
    /// Jobs that were done.
    pub done: u64,
    /// Jobs whose worker was stopped.
    pub stopped: u64,
    /// Jobs whose worker failed.
    pub failed: u64,
    /// Jobs that were handed out.
    pub given: u64,
}

/// Hands out so many jobs, to one worker after the other.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
pub struct Give {
    /// The first worker.
    pub to: u64,
    /// How many workers, one after the other.
    pub workers: u32,
    /// How many jobs are left.
    pub jobs: u32,
    /// Every how manyth ends with a panic; 0 for none.
    pub panics: u32,
    /// Whether nobody wants to know what came of them.
    pub tells: u32,
}

/// What came of a job.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Plain)]
pub struct Gone(Answered<Job>);
impl Answers<Job> for Gone {}

/// Shows what came of the jobs.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
pub struct Tally {}

impl Handler<Give> for Clerk {
    type Reply = ();

    fn handle(&mut self, give: &Give, context: &mut Context) -> Result<(), NoError> {
        if give.jobs == 0 {
            return Ok(());
        }
        self.given += 1;
        let to = ActorRef::<Worker>::new(give.to + u64::from(give.jobs % give.workers.max(1)));
        let is_bad = give.panics != 0 && give.jobs.is_multiple_of(give.panics);
        let job = if is_bad { Job::PANIC } else { Job::WELL };
        if give.tells != 0 {
            context.tell(to, &job);
        } else {
            context.ask::<Job, Gone>(to, &job, 0);
        }
        if give.jobs > 1 {
            context.tell(ActorRef::<Self>::new(context.key()), &Give { jobs: give.jobs - 1, ..*give });
        }
        Ok(())
    }
}

impl Handler<Gone> for Clerk {
    type Reply = ();

    fn handle(&mut self, gone: &Gone, _context: &mut Context) -> Result<(), NoError> {
        match gone.0.result() {
            Ok(_) => self.done += 1,
            Err(AskError::Failed(FailureCode::Stopped)) => self.stopped += 1,
            Err(_) => self.failed += 1,
        }
        Ok(())
    }
}

impl Handler<Tally> for Clerk {
    type Reply = Clerk;

    fn handle(&mut self, _message: &Tally, _context: &mut Context) -> Result<Clerk, NoError> {
        Ok(*self)
    }
}

actor!(Clerk {
    kind: 1402,
    letters: true,
    error: NoError,
    messages: { #[outlined] 0: Give, #[outlined] 1: Gone, #[outlined] 2: Tally },
});
