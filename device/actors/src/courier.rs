//! Carries messages from actor to actor, and remembers what came: traffic inside an engine, for load, benchmarks and tests.

use tourbillon_device::{ActorRef, Answered, Answers, AskError, Context, Handler, Plain, State, actor};

/// Senders whose messages' order a courier looks at.
pub const SENDERS: usize = 12;
/// Steps of the histogram of hops, two for each doubling of the time; what takes longer is counted in the last, from 6.3 ms on.
pub const HOP_STEPS: usize = 32;
/// Binary logarithm of the nanoseconds at which the first step would begin; it counts shorter hops as well.
const HOP_FIRST_LOG2: u32 = 7;

/// The step of the histogram in which a hop of `ns` nanoseconds is counted.
#[inline]
pub const fn hop_step(ns: u64) -> usize {
    let log2 = (ns | 1).ilog2();
    if log2 < HOP_FIRST_LOG2 {
        return 0;
    }
    let step = (log2 - HOP_FIRST_LOG2) * 2 + (ns >> (log2 - 1) & 1) as u32;
    if step < HOP_STEPS as u32 { step as usize } else { HOP_STEPS - 1 }
}

/// Nanoseconds of the shortest hop that is counted in `step`, below or at [`HOP_STEPS`]: where the step before it ends.
pub const fn hop_step_from(step: usize) -> u64 {
    if step == 0 { 0 } else { (2 + (step as u64 & 1)) << (HOP_FIRST_LOG2 as usize - 1 + step / 2) }
}
/// Most notes that one message sends: the most letters, less the one by which it goes on.
const NOTES_AT_ONCE: u32 = 3;

/// An actor that carries messages.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, State)]
pub struct Courier {
    /// [`Roam`]s and [`Note`]s that came.
    pub received: u64,
    /// Sum of the words of what came, wrapping.
    pub digest: u64,
    /// Answers that came.
    pub answers: u64,
    /// Answers that were failures.
    pub failures: u64,
    /// Sum of the answers, wrapping.
    pub answer_digest: u64,
    /// The last failure, as a word; 0 before the first.
    pub last_failure: u64,
    /// Questions that were asked of it.
    pub asked: u64,
    /// Sum of the numbers of endless [`Roam`]s that ended here, wrapping.
    pub ended_digest: u64,
    /// How many those were.
    pub ended: u32,
    /// Not 0: endless [`Roam`]s end here.
    pub is_halted: u32,
    /// [`Note`]s that did not follow the last one of their sender.
    pub out_of_order: u32,
    /// Not 0: a count of `hops` is full.
    pub is_full: u32,
    /// The last number from each sender, by its key modulo [`SENDERS`].
    pub last: [u32; SENDERS],
    /// How long messages took from their sending to their handler, by [`hop_step`].
    pub hops: [u32; HOP_STEPS],
}

/// Where a [`Roam`] goes next.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
pub enum Route {
    /// To the next in the ring.
    Ring = 0,
    /// To the other one of a pair: whose key differs in the bits of half the number of couriers.
    Pair = 1,
    /// Anywhere.
    Random = 2,
    /// Down a binary tree, and from its leaves to the root again.
    Tree = 3,
    /// To few of them mostly: keys as they are asked for in a Zipf distribution, about.
    Skewed = 4,
}

/// Goes from courier to courier.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
pub struct Roam {
    /// Hops that are left; with the highest bit set it goes on until it is halted, and the others are its number.
    pub left: u32,
    /// How it goes, times 2^28, and how many couriers there are: keys from 0 on.
    pub route_and_couriers: u32,
    /// The state of its random numbers.
    pub seed: u64,
}

impl Roam {
    const COURIERS_BITS: u32 = 28;
    const ENDLESS: u32 = 1 << 31;

    /// A message that goes `hops` hops, fewer than 2^31, between `couriers` couriers, fewer than 2^28.
    pub const fn new(hops: u32, route: Route, couriers: u32, seed: u64) -> Self {
        Self { left: hops, route_and_couriers: (route as u32) << Self::COURIERS_BITS | couriers, seed }
    }

    /// A message that goes on until a courier is halted to which it comes; of several that are under way each has a number, below 2^31.
    pub const fn endless(number: u32, route: Route, couriers: u32, seed: u64) -> Self {
        Self::new(number | Self::ENDLESS, route, couriers, seed)
    }

    /// What follows it at its next hop, unless it ends at a courier that is halted or not.
    #[inline]
    const fn rest(&self, is_halted: bool) -> Option<u32> {
        match self.left {
            0 => None,
            left if left < Self::ENDLESS => Some(left - 1),
            _ if is_halted => None,
            left => Some(left),
        }
    }

    /// Where it goes from `key`, and its next random number.
    #[inline]
    fn next(&self, key: u64) -> (u64, u64) {
        let couriers = u64::from(self.route_and_couriers & ((1 << Self::COURIERS_BITS) - 1));
        let here = ActorRef::<Courier>::new(key);
        // Knuth's MMIX generator, of which the upper bits are used.
        let seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let mixed = seed ^ seed >> 29;
        let random = ActorRef::<Courier>::owner_of(mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15), couriers).key();
        let to = match self.route_and_couriers >> Self::COURIERS_BITS {
            0 => here.neighbour(1, couriers).key(),
            1 => key ^ (couriers / 2),
            2 => random,
            3 => {
                let child = key.wrapping_mul(2).wrapping_add(1).wrapping_add(mixed >> 63);
                if child < couriers { child } else { 0 }
            }
            // The log-uniform distribution, whose density falls as that of Zipf's law with exponent 1 does.
            _ => {
                let bits = u64::from(u64::BITS - couriers.leading_zeros());
                let width = (mixed >> 40) % bits.max(1);
                let low = 1u64 << width;
                (low.wrapping_add((mixed >> 8) & low.wrapping_sub(1)) - 1) % couriers.max(1)
            }
        };
        (to, seed)
    }
}

/// Sends numbered [`Note`]s to another courier: a few, and the next when those have come, so that few are under way.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
pub struct Correspond {
    /// To whom.
    pub to: u64,
    /// The first number.
    pub first: u32,
    /// How many.
    pub count: u32,
}

/// Comes behind the notes of a [`Correspond`], and goes back as the next.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
pub struct Bounce {
    /// Who sent it.
    pub from: u64,
    /// The first number of the next.
    pub first: u32,
    /// How many are left.
    pub count: u32,
}

/// As [`Correspond`], but waits for nothing: more and more notes are under way.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
pub struct Flood {
    /// To whom.
    pub to: u64,
    /// The first number.
    pub first: u32,
    /// How many.
    pub count: u32,
}

/// One of numbered messages of a sender.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
pub struct Note {
    /// Who sent it.
    pub from: u64,
    /// Its number, one more than that of the one before.
    pub number: u32,
    /// Of a failure in its place: see [`Inquire::ending`].
    pub ending: Ending,
}

/// How a question ends for whoever is asked.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
pub enum Ending {
    /// With a reply.
    Reply = 0,
    /// With the actor's error.
    Error = 1,
    /// With a panic.
    Panic = 2,
    /// It is asked of the next courier, again and again.
    Circle = 3,
    /// It is asked of a courier that answers.
    Forward = 4,
}

/// Asks another courier, and takes the answer.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
pub struct Inquire {
    /// Whom.
    pub of: u64,
    /// What is asked.
    pub word: u32,
    /// How it ends.
    pub ending: Ending,
}

/// As [`Inquire`] for a reply, which is worthless after a time.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
pub struct InquireWithin {
    /// Whom.
    pub of: u64,
    /// What is asked.
    pub word: u32,
    /// The time, microseconds.
    pub within_us: u32,
}

/// Asked of a courier; the reply is [`Advice`].
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
pub struct Advise {
    /// What is asked.
    pub word: u32,
    /// How it ends.
    pub ending: Ending,
}

/// What a courier says to [`Advise`].
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
pub struct Advice {
    /// Who answers.
    pub by: u64,
    /// Twice what was asked.
    pub word: u64,
}

/// The answer to [`Advise`].
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Plain)]
pub struct Advised(pub Answered<Advise>);

impl Answers<Advise> for Advised {}

/// Hands itself on from courier to courier; the last one answers with its key.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
pub struct Relay {
    /// How often it is handed on.
    pub left: u32,
    /// Couriers there are, keys from 0 on.
    pub couriers: u32,
}

/// Sends more than it may, or in other ways that fail.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
pub struct Overreach {
    /// Letters to send.
    pub letters: u32,
    /// How often to hand itself on.
    pub forwards: u32,
    /// To whom.
    pub to: u64,
}

/// Begins the histogram of hops anew, and lets endless messages pass.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
pub struct Measure {}

/// Ends endless messages that come from now on.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
pub struct Halt {}

/// Shows the courier.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
pub struct Report {}

/// A courier's error.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
pub struct Refused {
    /// What was asked.
    pub word: u32,
}

impl Courier {
    #[inline]
    fn note_hop(&mut self, context: &Context) {
        let count = &mut self.hops[hop_step(context.waited_ns())];
        let (sum, is_over) = count.overflowing_add(1);
        if is_over {
            self.is_full = 1;
        } else {
            *count = sum;
        }
    }
}

impl Handler<Roam> for Courier {
    type Reply = ();

    #[inline]
    fn handle(&mut self, roam: &Roam, context: &mut Context) -> Result<(), Refused> {
        self.note_hop(context);
        self.received = self.received.wrapping_add(1);
        self.digest = self.digest.wrapping_add(roam.seed);
        if let Some(left) = roam.rest(self.is_halted != 0) {
            let (to, seed) = roam.next(context.key());
            context.tell(ActorRef::<Self>::new(to), &Roam { left, seed, ..*roam });
        } else if roam.left >= Roam::ENDLESS {
            self.ended = self.ended.wrapping_add(1);
            self.ended_digest = self.ended_digest.wrapping_add(u64::from(roam.left & !Roam::ENDLESS));
        }
        Ok(())
    }
}

/// Sends the first of `count` notes; how many.
fn send_notes(context: &mut Context, to: u64, first: u32, count: u32) -> u32 {
    let (from, now) = (context.key(), count.min(NOTES_AT_ONCE));
    for number in first..first + now {
        context.tell(ActorRef::<Courier>::new(to), &Note { from, number, ending: Ending::Reply });
    }
    now
}

impl Handler<Correspond> for Courier {
    type Reply = ();

    fn handle(&mut self, message: &Correspond, context: &mut Context) -> Result<(), Refused> {
        let Correspond { to, first, count } = *message;
        let now = send_notes(context, to, first, count);
        if count > now {
            let bounce = Bounce { from: context.key(), first: first + now, count: count - now };
            context.tell(ActorRef::<Self>::new(to), &bounce);
        }
        Ok(())
    }
}

impl Handler<Bounce> for Courier {
    type Reply = ();

    fn handle(&mut self, message: &Bounce, context: &mut Context) -> Result<(), Refused> {
        let next = Correspond { to: context.key(), first: message.first, count: message.count };
        context.tell(ActorRef::<Self>::new(message.from), &next);
        Ok(())
    }
}

impl Handler<Flood> for Courier {
    type Reply = ();

    fn handle(&mut self, message: &Flood, context: &mut Context) -> Result<(), Refused> {
        let Flood { to, first, count } = *message;
        let now = send_notes(context, to, first, count);
        if count > now {
            let rest = Flood { first: first + now, count: count - now, ..*message };
            context.tell(ActorRef::<Self>::new(context.key()), &rest);
        }
        Ok(())
    }
}

impl Handler<Note> for Courier {
    type Reply = ();

    fn handle(&mut self, note: &Note, context: &mut Context) -> Result<(), Refused> {
        self.note_hop(context);
        match note.ending {
            Ending::Error => return Err(Refused { word: note.number }),
            Ending::Panic => panic!("note {}", note.number),
            _ => {}
        }
        let last = &mut self.last[(note.from % SENDERS as u64) as usize];
        self.out_of_order += u32::from(note.number != last.wrapping_add(1));
        *last = note.number;
        self.received = self.received.wrapping_add(1);
        self.digest = self.digest.wrapping_add(u64::from(note.number) ^ note.from << 32);
        Ok(())
    }
}

impl Handler<Inquire> for Courier {
    type Reply = ();

    fn handle(&mut self, message: &Inquire, context: &mut Context) -> Result<(), Refused> {
        let advise = Advise { word: message.word, ending: message.ending };
        context.ask::<Advise, Advised>(ActorRef::new(message.of), &advise, message.word);
        Ok(())
    }
}

impl Handler<InquireWithin> for Courier {
    type Reply = ();

    fn handle(&mut self, message: &InquireWithin, context: &mut Context) -> Result<(), Refused> {
        let advise = Advise { word: message.word, ending: Ending::Reply };
        context.ask_within::<Advise, Advised>(ActorRef::new(message.of), &advise, message.word, message.within_us);
        Ok(())
    }
}

impl Handler<Advise> for Courier {
    type Reply = Advice;

    fn handle(&mut self, message: &Advise, context: &mut Context) -> Result<Advice, Refused> {
        self.asked += 1;
        let next = ActorRef::<Self>::new(context.key() ^ 1);
        match message.ending {
            Ending::Reply => Ok(Advice { by: context.key(), word: u64::from(message.word) * 2 }),
            Ending::Error => Err(Refused { word: message.word }),
            Ending::Panic => panic!("asked for {}", message.word),
            Ending::Circle => context.forward(next, message),
            Ending::Forward => context.forward(next, &Advise { word: message.word, ending: Ending::Reply }),
        }
    }
}

impl Handler<Advised> for Courier {
    type Reply = ();

    fn handle(&mut self, answer: &Advised, _context: &mut Context) -> Result<(), Refused> {
        self.answers += 1;
        match answer.0.result() {
            Ok(advice) => {
                let is_right = advice.word == 2 * u64::from(answer.0.token());
                self.answer_digest = self.answer_digest.wrapping_add(if is_right { advice.word } else { u64::MAX });
            }
            Err(error) => {
                self.failures += 1;
                self.last_failure = match error {
                    AskError::Handler(refused) => u64::from(refused.word) << 32 | 1,
                    AskError::Failed(code) => code as u64,
                    AskError::Invalid => u64::MAX,
                };
            }
        }
        Ok(())
    }
}

impl Handler<Relay> for Courier {
    type Reply = u64;

    fn handle(&mut self, relay: &Relay, context: &mut Context) -> Result<u64, Refused> {
        self.asked += 1;
        if relay.left == 0 {
            return Ok(context.key());
        }
        let next = ActorRef::<Self>::new(context.key()).neighbour(1, relay.couriers.into());
        context.forward(next, &Relay { left: relay.left - 1, ..*relay })
    }
}

impl Handler<Overreach> for Courier {
    type Reply = u64;

    fn handle(&mut self, message: &Overreach, context: &mut Context) -> Result<u64, Refused> {
        self.asked += 1;
        for number in 0..message.letters {
            let note = Note { from: context.key(), number, ending: Ending::Reply };
            context.tell(ActorRef::<Self>::new(message.to), &note);
        }
        for _ in 0..message.forwards {
            let _sent = context.forward(ActorRef::<Self>::new(message.to), &Relay { left: 0, couriers: 1 });
        }
        Ok(self.asked)
    }
}

impl Handler<Measure> for Courier {
    type Reply = ();

    fn handle(&mut self, _message: &Measure, _context: &mut Context) -> Result<(), Refused> {
        (self.hops, self.is_full, self.is_halted) = ([0; HOP_STEPS], 0, 0);
        Ok(())
    }
}

impl Handler<Halt> for Courier {
    type Reply = ();

    fn handle(&mut self, _message: &Halt, _context: &mut Context) -> Result<(), Refused> {
        self.is_halted = 1;
        Ok(())
    }
}

impl Handler<Report> for Courier {
    type Reply = Courier;

    fn handle(&mut self, _message: &Report, _context: &mut Context) -> Result<Courier, Refused> {
        Ok(*self)
    }
}

actor!(Courier {
    kind: 9,
    letters: true,
    error: Refused,
    messages: {
        #[outlined] 0: Roam, #[outlined] 1: Correspond, #[outlined] 2: Note, #[outlined] 3: Inquire, #[outlined] 4: Advise,
        #[outlined] 5: Advised, #[outlined] 6: Relay, #[outlined] 7: Overreach, #[outlined] 8: Report,
        #[outlined] 9: Bounce, #[outlined] 10: Flood, #[outlined] 11: Measure, #[outlined] 12: Halt, #[outlined] 13: InquireWithin,
    },
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_follow_each_other() {
        for step in 0..HOP_STEPS {
            let (from, to) = (hop_step_from(step), hop_step_from(step + 1));
            assert_eq!((hop_step(from), hop_step(to - 1)), (step, step));
            assert!(to > from && (step == 0 || to <= from + from / 2), "{from} {to}");
        }
        assert_eq!((hop_step_from(1), hop_step_from(HOP_STEPS - 1)), (192, 6_291_456));
        assert_eq!((hop_step(0), hop_step(u64::MAX)), (0, HOP_STEPS - 1));
    }

    #[test]
    fn messages_end_when_they_have_made_their_hops_or_are_halted() {
        let roam = |left| Roam { left, route_and_couriers: 4, seed: 1 };
        assert_eq!((roam(0).rest(false), roam(2).rest(true)), (None, Some(1)));
        let endless = Roam::endless(5, Route::Ring, 4, 1);
        assert_eq!((endless.rest(false), endless.rest(true)), (Some(endless.left), None));
    }
}
