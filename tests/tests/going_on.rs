//! Letters by which actors go on: none is lost while there is no room, they leave room for what they wait for, and a shard has a bounded
//! number of them.

use std::time::Duration;

use tourbillon::{
    ActorRef, Answered, Answers, CallError, Context, Counter, Engine, EngineBuilder, Handler, NoError, Plain, State,
    actor, system,
};
use tourbillon_tests::bench::{client, counters};
use tourbillon_tests::{Bench, on_backends};

/// How long a test waits for the last letter.
const QUIET_TIME_MAX: Duration = Duration::from_secs(60);
/// Letters of one step.
const LOADS: u64 = 3;

/// Digs step by step, and sends what it digs up to a heap.
#[repr(C)]
#[derive(Clone, Copy, State)]
struct Digger {
    depth: u64,
    end: u64,
    panics_at: u64,
}

/// Begins to dig so deep. Where it panics, it has to begin again.
#[repr(C)]
#[derive(Clone, Copy, Plain)]
struct Begin {
    end: u64,
    panics_at: u64,
}

/// Goes on.
#[repr(C)]
#[derive(Clone, Copy, Plain)]
struct Dig {}

/// Begins to dig, with a first step at once: what that sends would fill the mailbox.
#[repr(C)]
#[derive(Clone, Copy, Plain)]
struct Strike {
    end: u64,
}

/// How deep it is.
#[repr(C)]
#[derive(Clone, Copy, Plain)]
struct Depth {}

/// What was dug up: the longest letter that there is.
#[repr(C)]
#[derive(Clone, Copy, Plain)]
struct Load {
    from: u64,
    depth: u64,
    earth: [u64; 42],
}

impl Handler<Begin> for Digger {
    type Reply = ();
    fn handle(&mut self, begin: &Begin, context: &mut Context) -> Result<(), NoError> {
        (self.end, self.panics_at) = (begin.end, begin.panics_at);
        context.go_on(&Dig {});
        Ok(())
    }
}

impl Handler<Dig> for Digger {
    type Reply = ();
    fn handle(&mut self, dig: &Dig, context: &mut Context) -> Result<(), NoError> {
        if self.depth == self.end {
            return Ok(());
        }
        self.depth += 1;
        assert!(self.depth != self.panics_at, "the digger was told to panic");
        for heap in 0..LOADS {
            let load = Load { from: context.key(), depth: self.depth, earth: [self.depth; 42] };
            context.tell(ActorRef::<Heap>::new(heap), &load);
        }
        context.go_on(dig);
        Ok(())
    }
}

impl Handler<Strike> for Digger {
    type Reply = ();
    fn handle(&mut self, strike: &Strike, context: &mut Context) -> Result<(), NoError> {
        self.end = strike.end;
        <Self as Handler<Dig>>::handle(self, &Dig {}, context)
    }
}

impl Handler<Depth> for Digger {
    type Reply = u64;
    fn handle(&mut self, _depth: &Depth, _context: &mut Context) -> Result<u64, NoError> {
        Ok(self.depth)
    }
}

actor!(Digger { kind: 800, goes_on: true, error: NoError, messages: { #[outlined] 0: Begin, #[outlined] 1: Dig, 2: Depth, #[outlined] 3: Strike } });

/// Where loads come.
#[repr(C)]
#[derive(Clone, Copy, State)]
struct Heap {
    loads: u64,
    digest: u64,
}

/// Shows the heap. The reply takes more slots than the message, also where an actor asks.
#[repr(C)]
#[derive(Clone, Copy, Plain)]
struct Weigh {}

#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
struct Weight {
    loads: u64,
    digest: u64,
    filler: [u64; 20],
}

fn digest_of(digger: u64, depth: u64) -> u64 {
    (digger << 32 | depth).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

impl Handler<Load> for Heap {
    type Reply = ();
    fn handle(&mut self, load: &Load, _context: &mut Context) -> Result<(), NoError> {
        assert_eq!(load.earth, [load.depth; 42]);
        self.loads += 1;
        self.digest = self.digest.wrapping_add(digest_of(load.from, load.depth));
        Ok(())
    }
}

impl Handler<Weigh> for Heap {
    type Reply = Weight;
    fn handle(&mut self, _weigh: &Weigh, _context: &mut Context) -> Result<Weight, NoError> {
        self.loads += 1;
        Ok(Weight { loads: self.loads, digest: self.digest, filler: [0; 20] })
    }
}

actor!(Heap { kind: 801, error: NoError, messages: { #[outlined] 0: Load, #[outlined] 1: Weigh } });

/// Has others weighed.
#[repr(C)]
#[derive(Clone, Copy, State)]
struct Keeper {
    asked: u64,
    weight: u64,
}

/// Asks a heap what it weighs; the reply is what the last one weighed.
#[repr(C)]
#[derive(Clone, Copy, Plain)]
struct Check {
    heap: u64,
}

impl Handler<Check> for Keeper {
    type Reply = u64;
    fn handle(&mut self, check: &Check, context: &mut Context) -> Result<u64, NoError> {
        self.asked += 1;
        context.ask::<Weigh, Weighed>(ActorRef::new(check.heap), &Weigh {}, 0);
        Ok(self.weight)
    }
}

/// What a heap weighs: larger than the question.
#[repr(transparent)]
#[derive(Clone, Copy, Plain)]
struct Weighed(Answered<Weigh>);

impl Answers<Weigh> for Weighed {}

impl Handler<Weighed> for Keeper {
    type Reply = ();
    fn handle(&mut self, weighed: &Weighed, _context: &mut Context) -> Result<(), NoError> {
        self.weight = weighed.0.result().map_or(u64::MAX, |weight| weight.loads);
        Ok(())
    }
}

actor!(Keeper { kind: 802, letters: true, error: NoError, messages: { #[outlined] 0: Check, #[outlined] 1: Weighed } });
system! { struct Mine = [Digger, Heap, Keeper]; }

/// One shard with the smallest mailbox, in which a step's letters find room only when nothing else waits.
fn builder(bench: &Bench) -> EngineBuilder {
    bench.builder_for(Mine::image()).shards(1).mailbox_capacity(32).overflow_capacity(32).actors_per_shard(256)
}

/// Waits until nothing is under way, and sees that all room has come back.
fn quiet(engine: &Engine) {
    engine.quiesce(QUIET_TIME_MAX).unwrap();
    // A shard tells of the rest of what it took when it stops.
    engine.relaunch().unwrap();
    engine.pause().unwrap();
    let mailbox = engine.mailboxes().unwrap()[0];
    assert_eq!((mailbox.room, mailbox.answer_room, mailbox.overflow_room), (12, 16, 32));
    engine.resume().unwrap();
}

on_backends! {
    [native_1, native_3, simt_4, simt_32, simt_32_hostile]
    fn work_without_room_goes_on(bench: &Bench) {
        let engine = builder(bench).build().unwrap();
        let mut client = client(&engine);
        let end = bench.scale(500, 30);
        let (mut refused, mut expected) = (0, 0u64);
        for digger in 0..12 {
            while let Err(error) = client.call(digger, Begin { end, panics_at: 0 }) {
                assert_eq!(error, CallError::MailboxFull { hops: 0 });
                refused += 1;
            }
            for depth in 1..=end {
                expected = expected.wrapping_add(digest_of(digger, depth));
            }
        }
        quiet(&engine);
        for digger in 0..12 {
            assert_eq!(client.call(digger, Depth {}), Ok(end));
        }
        for heap in 0..LOADS {
            let weight = client.call(heap, Weigh {}).unwrap();
            assert_eq!((weight.loads, weight.digest), (12 * end + 1, expected), "heap {heap}");
        }
        let counts = counters(&engine);
        assert!(counts[Counter::LettersPutBack as usize] > 0);
        // Twelve want to go on at the same time, and four may.
        assert!(refused > 0);
        assert_eq!(engine.dead_letters().unwrap().len(), 0);
    }
}

on_backends! {
    [native_1, native_3, simt_4, simt_32]
    /// The letters that a message sends besides leave room for the one by which its actor goes on.
    fn letters_leave_room_for_going_on(bench: &Bench) {
        let engine = builder(bench).build().unwrap();
        let mut client = client(&engine);
        for digger in 1..=20 {
            assert_eq!(client.call(digger, Strike { end: 3 }), Ok(()), "digger {digger}");
            engine.quiesce(QUIET_TIME_MAX).unwrap();
            assert_eq!(client.call(digger, Depth {}), Ok(3));
        }
        quiet(&engine);
    }
}

on_backends! {
    [native_1, native_3, simt_4, simt_32]
    /// A letter whose handler panics is gone, and its place is free: all four of them, several times.
    fn a_panic_ends_it(bench: &Bench) {
        let engine = builder(bench).build().unwrap();
        let mut client = client(&engine);
        for round in 1..=3 {
            for digger in 0..4 {
                let begin = Begin { end: 100 * round, panics_at: 5 * round };
                while client.call(digger, begin).is_err() {}
            }
            engine.quiesce(QUIET_TIME_MAX).unwrap();
            for digger in 0..4 {
                assert_eq!(client.call(digger, Depth {}), Ok(5 * round - 1));
            }
        }
        for digger in 0..4 {
            assert_eq!(client.call(digger, Begin { end: 30, panics_at: 0 }), Ok(()), "its place is free");
            engine.quiesce(QUIET_TIME_MAX).unwrap();
            assert_eq!(client.call(digger, Depth {}), Ok(30));
        }
    }
}

on_backends! {
    [native_1, native_3, simt_4, simt_32]
    /// A question has room for a reply that is longer.
    fn replies_have_room(bench: &Bench) {
        let engine = builder(bench).build().unwrap();
        let mut client = client(&engine);
        for weight in 0..5 {
            assert_eq!(client.call(1, Check { heap: 9 }), Ok(weight));
            engine.quiesce(QUIET_TIME_MAX).unwrap();
        }
        quiet(&engine);
        assert_eq!(client.call(9, Weigh {}).unwrap().loads, 6);
    }
}
