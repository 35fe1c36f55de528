//! Tells all of its kind at once, and counts what it hears: for tests of broadcasts.

use tourbillon_device::{ActorRef, Context, Handler, NoError, Plain, State, actor};

/// Words of which a crier counts how often it heard them.
pub const WORDS: usize = 16;

/// An actor that hears and tells.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, State)]
pub struct Crier {
    /// [`Hear`]s that came.
    pub heard: u64,
    /// Sum of their words, wrapping.
    pub digest: u64,
    /// How often each was heard, by the word modulo [`WORDS`].
    pub times: [u32; WORDS],
}

/// What is told to all.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
pub struct Hear {
    /// The word.
    pub word: u64,
}

/// As [`Hear`], in a frame of the largest size.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
pub struct HearMuch {
    /// The word, 44 times.
    pub words: [u64; 44],
}

/// Broadcasts [`Hear`].
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
pub struct Cry {
    /// The word.
    pub word: u64,
    /// How many broadcasts this message begins.
    pub broadcasts: u32,
    /// How often it sends itself on to the crier with the next key before it ends, and broadcasts again there.
    pub left: u32,
}

/// Broadcasts, and panics behind that.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
pub struct CryAndPanic {
    /// The word.
    pub word: u64,
}

/// Shows the crier.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
pub struct Listen {}

/// A word on which whoever hears it panics.
pub const UNHEARD_OF: u64 = u64::MAX;

impl Handler<Hear> for Crier {
    /// Larger than the message: a letter has room for the reply to it.
    type Reply = [u64; 8];

    fn handle(&mut self, hear: &Hear, _context: &mut Context) -> Result<[u64; 8], NoError> {
        assert!(hear.word != UNHEARD_OF, "unheard of");
        self.heard += 1;
        self.digest = self.digest.wrapping_add(hear.word);
        self.times[(hear.word % WORDS as u64) as usize] += 1;
        Ok([self.heard; 8])
    }
}

impl Handler<HearMuch> for Crier {
    type Reply = ();

    fn handle(&mut self, hear: &HearMuch, _context: &mut Context) -> Result<(), NoError> {
        let [word, ..] = hear.words;
        self.heard += 1;
        for other in hear.words {
            self.digest = self.digest.wrapping_add(other);
        }
        self.times[(word % WORDS as u64) as usize] += 1;
        Ok(())
    }
}

impl Handler<Cry> for Crier {
    type Reply = ();

    fn handle(&mut self, cry: &Cry, context: &mut Context) -> Result<(), NoError> {
        for _ in 0..cry.broadcasts {
            context.broadcast(&Hear { word: cry.word });
        }
        if cry.left != 0 {
            context.tell(ActorRef::<Self>::new(context.key() + 1), &Cry { left: cry.left - 1, ..*cry });
        }
        Ok(())
    }
}

impl Handler<CryAndPanic> for Crier {
    type Reply = ();

    fn handle(&mut self, cry: &CryAndPanic, context: &mut Context) -> Result<(), NoError> {
        context.broadcast(&Hear { word: cry.word });
        panic!("cried {}", cry.word);
    }
}

impl Handler<Listen> for Crier {
    type Reply = Crier;

    fn handle(&mut self, _message: &Listen, _context: &mut Context) -> Result<Crier, NoError> {
        Ok(*self)
    }
}

actor!(Crier {
    kind: 15,
    letters: true,
    error: NoError,
    messages: {
        #[outlined] 0: Hear, #[outlined] 1: HearMuch, #[outlined] 2: Cry, #[outlined] 3: CryAndPanic, #[outlined] 4: Listen,
    },
});
