//! A system with actors that live on the host, [`Archive`] and [`Notary`], and one of the device that talks to them, [`Clerk`].
//!
//! A package of its own, as a user's is: its build script compiles the system for GPUs.

#![no_std]

use tourbillon::{
    ActorRef, Answered, Answers, AskError, Context, Handler, NoError, Plain, State, actor, host_actor, system,
};

/// Words of a record beside its id.
pub const RECORD_WORDS: usize = 39;

/// Keeps a value under an id; the reply is how many are kept.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
pub struct Keep {
    /// The id.
    pub id: u64,
    /// The value.
    pub value: u64,
}

/// Reads what is kept under an id.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
pub struct Load {
    /// The id.
    pub id: u64,
}

/// What is kept: as long as a host actor's reply may be.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
pub struct Record {
    /// Its id.
    pub id: u64,
    /// Its value in each.
    pub words: [u64; RECORD_WORDS],
}

/// Does something beside keeping: `what` is between the archive and who asks.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
pub struct Errand {
    /// What to do.
    pub what: u64,
    /// With what.
    pub with: u64,
}

/// Nothing is kept under the id.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
pub struct Missing {
    /// The id.
    pub id: u64,
}

impl core::fmt::Display for Missing {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "nothing is kept under the id {}; keep something there first", self.id)
    }
}

impl core::error::Error for Missing {}

host_actor!(
    /// Keeps values, on the host.
    pub struct Archive { kind: 1030, error: Missing, messages: { 0: Keep => u64, 1: Load => Record, 2: Errand => u64 } }
);

/// Attests a word.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
pub struct Attest(pub u64);

host_actor!(
    /// Attests words, on the host.
    pub struct Notary { kind: 1031, error: NoError, messages: { 0: Attest => u64 } }
);

/// Works with archives, on the device, and remembers what came of it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, State)]
pub struct Clerk {
    /// Answers that came, of any sort.
    pub answers: u64,
    /// Of those, typed errors.
    pub missing: u64,
    /// The value of the last record.
    pub last: u64,
    /// The failure of the last question that was not handled, 0 for none.
    pub failure: u64,
    /// What was credited.
    pub credit: u64,
    /// How often the credits came in another order than 1, 2, 3 and so on.
    pub disorder: u64,
    /// The sum of all values that came.
    pub sum: u64,
}

/// Tells an archive to keep a value.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
pub struct Note {
    /// The archive.
    pub archive: ActorRef<Archive>,
    /// What.
    pub keep: Keep,
}

/// Asks an archive for what it keeps.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
pub struct Fetch {
    /// The archive.
    pub archive: ActorRef<Archive>,
    /// The id.
    pub id: u64,
    /// How long the question is good for, microseconds; 0 for ever.
    pub within_us: u64,
}

/// The answer to that.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Plain)]
pub struct Fetched(Answered<Load>);
impl Answers<Load> for Fetched {}

/// Has an archive answer in the clerk's place.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
pub struct Pass {
    /// The archive.
    pub archive: ActorRef<Archive>,
    /// The id.
    pub id: u64,
}

/// Tells a notary.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
pub struct Call {
    /// The notary.
    pub notary: ActorRef<Notary>,
    /// What it attests.
    pub word: u64,
}

/// Credits the clerk; the reply is the number of the credit.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
pub struct Credit(pub u64);

/// How the clerk stands.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
pub struct Show {}

impl Handler<Note> for Clerk {
    type Reply = ();
    fn handle(&mut self, note: &Note, context: &mut Context) -> Result<(), Missing> {
        context.tell(note.archive, &note.keep);
        Ok(())
    }
}

impl Handler<Fetch> for Clerk {
    type Reply = ();
    fn handle(&mut self, fetch: &Fetch, context: &mut Context) -> Result<(), Missing> {
        let load = Load { id: fetch.id };
        match fetch.within_us {
            0 => context.ask::<Load, Fetched>(fetch.archive, &load, fetch.id as u32),
            within => context.ask_within::<Load, Fetched>(fetch.archive, &load, fetch.id as u32, within as u32),
        }
        Ok(())
    }
}

impl Handler<Fetched> for Clerk {
    type Reply = ();
    fn handle(&mut self, fetched: &Fetched, _context: &mut Context) -> Result<(), Missing> {
        self.answers += 1;
        match fetched.0.result() {
            Ok(record)
                if record.id as u32 == fetched.0.token() && record.words[0] == record.words[RECORD_WORDS - 1] =>
            {
                self.last = record.words[0];
                self.sum = self.sum.wrapping_add(self.last);
            }
            Err(AskError::Handler(Missing { id })) if id as u32 == fetched.0.token() => self.missing += 1,
            Err(AskError::Failed(code)) => self.failure = code as u64,
            _ => self.failure = u64::MAX,
        }
        Ok(())
    }
}

impl Handler<Pass> for Clerk {
    type Reply = Record;
    fn handle(&mut self, pass: &Pass, context: &mut Context) -> Result<Record, Missing> {
        context.forward(pass.archive, &Load { id: pass.id })
    }
}

impl Handler<Call> for Clerk {
    type Reply = ();
    fn handle(&mut self, call: &Call, context: &mut Context) -> Result<(), Missing> {
        context.tell(call.notary, &Attest(call.word));
        Ok(())
    }
}

impl Handler<Credit> for Clerk {
    type Reply = u64;
    fn handle(&mut self, credit: &Credit, _context: &mut Context) -> Result<u64, Missing> {
        self.disorder += u64::from(credit.0 != self.credit + 1);
        self.credit += 1;
        Ok(self.credit)
    }
}

impl Handler<Show> for Clerk {
    type Reply = Clerk;
    fn handle(&mut self, _show: &Show, _context: &mut Context) -> Result<Clerk, Missing> {
        Ok(*self)
    }
}

actor!(Clerk {
    kind: 1032,
    letters: true,
    error: Missing,
    messages: {
        #[outlined] 0: Note, #[outlined] 1: Fetch, #[outlined] 2: Fetched, #[outlined] 3: Pass, #[outlined] 4: Call,
        #[outlined] 5: Credit, #[outlined] 6: Show,
    },
});

system! {
    /// Archives and notaries of the host, and clerks of the device.
    pub struct Office = [Archive, Notary, Clerk];
}

/// The system for an engine to be built from, with its kernels for GPUs where this package was built with a device toolchain.
#[cfg(not(target_arch = "nvptx64"))]
pub fn image() -> tourbillon::SystemImage {
    Office::image().with_ptx(tourbillon::built_ptx!())
}
