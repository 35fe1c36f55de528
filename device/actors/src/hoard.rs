//! Collections that fail on demand, in the middle of being changed.

use tourbillon_device::{Context, Handler, Plain, PoolError, PoolMap, PoolSet, PoolVec, State, actor};

/// Words, in a collection of each sort.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, State)]
pub struct Hoard {
    /// In the order in which they came.
    pub words: PoolVec<u64>,
    /// The same.
    pub set: PoolSet<u64>,
    /// The same, and to each its [`value_of`].
    pub map: PoolMap<u64, u64>,
    /// Messages that were handled well.
    pub handled: u64,
}

/// How a message ends, after what it has done.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Plain)]
pub enum Ending {
    /// Well.
    Well = 0,
    /// With the typed error.
    Error = 1,
    /// With a panic.
    Panic = 2,
    /// With an exhausted pool: words are added until there is no page left.
    Exhaust = 3,
    /// Well, after the pool was found exhausted and the words that had been added for that were taken out again.
    Forgive = 4,
}

/// Adds the words `first .. first + count`; the reply is how many there are then.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
pub struct Stow {
    /// The first word.
    pub first: u64,
    /// How many.
    pub count: u32,
    /// What happens then.
    pub ending: Ending,
}

/// Takes the last `count` words out again; the reply is how many are left.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
pub struct Fetch {
    /// How many, or all that there are.
    pub count: u32,
    /// What happens then.
    pub ending: Ending,
}

/// Asks what is there, and whether the three collections agree.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
pub struct Audit {}

/// What is there.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
pub struct Audited {
    /// Words.
    pub words: u64,
    /// Their sum, modulo 2^64.
    pub sum: u64,
    /// How many of them are not in the set, or not in the map with their value; and how many of those are not among the words.
    pub strays: u64,
    /// Messages that were handled well.
    pub handled: u64,
}

/// A failure on demand.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
pub struct HoardError {
    /// Words at that moment.
    pub words: u64,
}

impl core::fmt::Display for HoardError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "failed on demand with {} words", self.words)
    }
}

impl core::error::Error for HoardError {}

impl From<PoolError> for HoardError {
    fn from(_: PoolError) -> Self {
        Self { words: u64::MAX }
    }
}

/// The value of a word in the map.
pub fn value_of(word: u64) -> u64 {
    word.rotate_left(17) ^ 0x5555
}

/// Words that are added to exhaust a pool are this and more.
const FILLING: u64 = 1 << 60;

impl Hoard {
    fn add(&mut self, word: u64, context: &mut Context) -> Result<(), PoolError> {
        self.words.push(context, word)?;
        self.set.insert(context, word)?;
        self.map.insert(context, word, value_of(word))?;
        Ok(())
    }

    fn take(&mut self, context: &mut Context) -> Result<bool, PoolError> {
        let Some(word) = self.words.pop(context)? else { return Ok(false) };
        self.set.remove(context, &word)?;
        self.map.remove(context, &word)?;
        Ok(true)
    }

    fn end(&mut self, ending: Ending, context: &mut Context) -> Result<u64, HoardError> {
        match ending {
            Ending::Well => {}
            Ending::Error => return Err(HoardError { words: self.words.len().into() }),
            Ending::Panic => panic!("on demand"),
            Ending::Exhaust => loop {
                self.add(FILLING + u64::from(self.words.len()), context)?;
            },
            Ending::Forgive => {
                let before = self.words.len();
                // Of the sequence alone: less of it takes no page.
                while self.words.push(context, FILLING).is_ok() {}
                if context.forgive() != Some(PoolError::Exhausted) {
                    return Err(HoardError { words: 0 });
                }
                self.words.truncate(context, before)?;
            }
        }
        self.handled += 1;
        Ok(self.words.len().into())
    }
}

impl Handler<Stow> for Hoard {
    type Reply = u64;

    fn handle(&mut self, message: &Stow, context: &mut Context) -> Result<u64, HoardError> {
        for i in 0..message.count {
            self.add(message.first.wrapping_add(i.into()), context)?;
        }
        self.end(message.ending, context)
    }
}

impl Handler<Fetch> for Hoard {
    type Reply = u64;

    fn handle(&mut self, message: &Fetch, context: &mut Context) -> Result<u64, HoardError> {
        for _ in 0..message.count {
            if !self.take(context)? {
                break;
            }
        }
        self.end(message.ending, context)
    }
}

impl Handler<Audit> for Hoard {
    type Reply = Audited;

    fn handle(&mut self, _message: &Audit, context: &mut Context) -> Result<Audited, HoardError> {
        let words = u64::from(self.words.len());
        let (mut sum, mut found) = (0u64, 0u64);
        for word in self.words.iter(context) {
            let word = word?;
            sum = sum.wrapping_add(*word);
            let is_there = self.set.contains(context, word)?
                && self.map.get(context, word)?.is_some_and(|value| *value == value_of(*word));
            found += u64::from(is_there);
        }
        let (mut keys, mut entries) = (0u64, 0u64);
        for key in self.set.iter(context) {
            keys = keys.wrapping_add(*key?);
        }
        for entry in self.map.iter(context) {
            entries = entries.wrapping_add(*entry?.0);
        }
        let others = [u64::from(self.set.len()), u64::from(self.map.len())];
        let strays = (words - found) + others.map(|count| count.abs_diff(words)).iter().sum::<u64>();
        let strays = strays + u64::from(keys != sum) + u64::from(entries != sum);
        Ok(Audited { words, sum, strays, handled: self.handled })
    }
}

actor!(Hoard {
    kind: 8,
    pools: true,
    error: HoardError,
    messages: { #[outlined] 0: Stow, #[outlined] 1: Fetch, #[outlined] 2: Audit },
});
