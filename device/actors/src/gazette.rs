//! An actor that publishes blocks and reads those of others, and fails on demand while it does.
//!
//! The engine's tests use it to find out whether a reader ever sees anything but one whole version.

use tourbillon_device::{BlockRef, Context, Handler, Plain, PoolError, PoolVec, State, actor};

use crate::hoard::Ending;

/// Issues that it has published and not taken back.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, State)]
pub struct Gazette {
    /// Oldest first.
    pub issues: PoolVec<BlockRef<u64>>,
    /// Messages that were handled well.
    pub handled: u64,
}

/// Publishes an issue of `length` words that follow from `seed`, and takes the oldest back until `keep` are left; the reply is a reference
/// to the new one.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
pub struct Issue {
    /// What its words follow from.
    pub seed: u64,
    /// How many words.
    pub length: u32,
    /// How many issues to keep.
    pub keep: u32,
    /// What happens then.
    pub ending: Ending,
    /// Zero.
    pub filler: u32,
}

/// Reads an issue, of whichever actor, several times.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
pub struct Peruse {
    /// What to read.
    pub issue: BlockRef<u64>,
    /// What happens then.
    pub ending: Ending,
}

/// What a reader saw.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
pub struct Perused {
    /// The first word, from which the others follow; 0 without one.
    pub seed: u64,
    /// Words, those of all readings together that are not what follows from the first among them.
    pub strays: u64,
    /// Words of the issue.
    pub length: u64,
}

/// Takes an issue back; the reply is how many are left.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
pub struct Withdraw {
    /// What to take back.
    pub issue: BlockRef<u64>,
    /// What happens then.
    pub ending: Ending,
}

/// Asks for the latest issue.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
pub struct Latest {}

/// A failure on demand.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
pub struct GazetteError {
    /// Issues at that moment.
    pub issues: u64,
}

impl core::fmt::Display for GazetteError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "failed on demand with {} issues", self.issues)
    }
}

impl core::error::Error for GazetteError {}

impl From<PoolError> for GazetteError {
    fn from(_: PoolError) -> Self {
        Self { issues: u64::MAX }
    }
}

/// Word `index` of an issue; the first is the seed.
pub fn word_of(seed: u64, index: u32) -> u64 {
    seed.rotate_left(index % 64) ^ u64::from(index).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// How often [`Peruse`] reads: so that on CPU threads something happens meanwhile.
const READINGS: u32 = 3;

impl Gazette {
    fn end(&mut self, ending: Ending, context: &mut Context) -> Result<(), GazetteError> {
        match ending {
            Ending::Well => {}
            Ending::Error => return Err(GazetteError { issues: self.issues.len().into() }),
            Ending::Panic => panic!("on demand"),
            Ending::Exhaust => loop {
                BlockRef::publish(context, &[7u64; 64])?;
            },
            Ending::Forgive => {
                // The last one leads to the others, so that all can be taken back.
                let mut last = BlockRef::<BlockRef<u64>>::new();
                let mut word = BlockRef::<u64>::new();
                while word.replace(context, &[7; 64]).is_ok() && last.replace(context, &[word]).is_ok() {}
                if context.forgive() != Some(PoolError::Exhausted) {
                    return Err(GazetteError { issues: 0 });
                }
                word.take_back(context)?;
                last.take_back(context)?;
            }
        }
        self.handled += 1;
        Ok(())
    }
}

impl Handler<Issue> for Gazette {
    type Reply = BlockRef<u64>;

    fn handle(&mut self, message: &Issue, context: &mut Context) -> Result<BlockRef<u64>, GazetteError> {
        let Issue { seed, length, keep, ending, .. } = *message;
        let mut issue = match self.issues.last(context)? {
            Some(last) if keep == 1 && self.issues.len() == 1 => *last,
            _ => BlockRef::new(),
        };
        let is_replaced = !issue.is_none();
        issue.replace_with(context, length, |_, index| Ok(word_of(seed, index)))?;
        if is_replaced {
            self.issues.pop(context)?;
        }
        self.issues.push(context, issue)?;
        while self.issues.len() > keep {
            let Some(mut oldest) = self.issues.remove(context, 0)? else { break };
            oldest.take_back(context)?;
        }
        self.end(ending, context)?;
        Ok(issue)
    }
}

impl Handler<Peruse> for Gazette {
    type Reply = Perused;

    fn handle(&mut self, message: &Peruse, context: &mut Context) -> Result<Perused, GazetteError> {
        let issue = message.issue.read(context)?;
        let seed = issue.get(0).copied().unwrap_or(0);
        let mut strays = 0;
        for reading in 0..READINGS {
            if reading % 2 == 0 {
                for (index, word) in (0..).zip(issue) {
                    strays += u64::from(*word != word_of(seed, index));
                }
            } else {
                let mut index = 0;
                for chunk in 0..issue.chunks() {
                    for word in issue.chunk(chunk) {
                        strays += u64::from(*word != word_of(seed, index));
                        index += 1;
                    }
                }
                strays += u64::from(index != issue.len());
            }
            #[cfg(not(target_arch = "nvptx64"))]
            std::thread::yield_now();
        }
        let length = issue.len().into();
        self.end(message.ending, context)?;
        Ok(Perused { seed, strays, length })
    }
}

impl Handler<Withdraw> for Gazette {
    type Reply = u64;

    fn handle(&mut self, message: &Withdraw, context: &mut Context) -> Result<u64, GazetteError> {
        let mut issue = message.issue;
        issue.take_back(context)?;
        let mut place = 0;
        while let Some(kept) = self.issues.get(context, place)?.copied() {
            if kept == message.issue {
                self.issues.remove(context, place)?;
                break;
            }
            place += 1;
        }
        self.end(message.ending, context)?;
        Ok(self.issues.len().into())
    }
}

impl Handler<Latest> for Gazette {
    type Reply = BlockRef<u64>;

    fn handle(&mut self, _message: &Latest, context: &mut Context) -> Result<BlockRef<u64>, GazetteError> {
        Ok(self.issues.last(context)?.copied().unwrap_or_default())
    }
}

actor!(Gazette {
    kind: 11,
    blocks: true,
    error: GazetteError,
    messages: {
        #[outlined] 0: Issue,
        #[outlined] 1: Peruse,
        #[outlined] 2: Withdraw,
        #[outlined] 3: Latest,
    },
});
