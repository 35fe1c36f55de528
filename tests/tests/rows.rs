//! Messages that are handed on by handlers whose letters are run one after the other, in one shard.

use std::time::Duration;

use tourbillon::{
    ActorRef, Answered, Answers, Context, Counter, Engine, EngineBuilder, GpuGeometry, Handler, NoError, Plain, State,
    actor, system,
};
use tourbillon_tests::bench::{client, counters};
use tourbillon_tests::on_backends;

/// How long the test waits for the last letter.
const QUIET_TIME_MAX: Duration = Duration::from_secs(60);

/// How often an heir is consulted for each that panics: the simulator's lanes come in an order drawn anew each time.
const CONSULTED: u64 = 8;

fn quiet(engine: &Engine) {
    engine.quiesce(QUIET_TIME_MAX).unwrap();
}

/// Hands on what it is told, or fails at it.
#[repr(C)]
#[derive(Clone, Copy, State)]
struct Heir {
    told: u64,
    asked: u64,
    answers: u64,
}

/// Tells the next heir a [`Bequeath`].
#[repr(C)]
#[derive(Clone, Copy, Plain)]
struct Testify {}

/// Tells the next heir to [`Consult`] others.
#[repr(C)]
#[derive(Clone, Copy, Plain)]
struct Hesitate {}

/// Goes on to the next heir as often as this; the last one panics.
#[repr(C)]
#[derive(Clone, Copy, Plain)]
struct Bequeath(u32);

/// Asks the next heir, and then leaves the answer to the one after it.
#[repr(C)]
#[derive(Clone, Copy, Plain)]
struct Consult {}

#[repr(C)]
#[derive(Clone, Copy, Plain)]
struct Ask {}

#[repr(transparent)]
#[derive(Clone, Copy, Plain)]
struct Told(Answered<Ask>);
impl Answers<Ask> for Told {}

impl Handler<Testify> for Heir {
    type Reply = ();
    fn handle(&mut self, _message: &Testify, context: &mut Context) -> Result<(), NoError> {
        context.tell(ActorRef::<Self>::new(context.key() + 1), &Bequeath(2));
        Ok(())
    }
}

impl Handler<Hesitate> for Heir {
    type Reply = ();
    fn handle(&mut self, _message: &Hesitate, context: &mut Context) -> Result<(), NoError> {
        context.tell(ActorRef::<Self>::new(context.key() + 1), &Consult {});
        Ok(())
    }
}

impl Handler<Bequeath> for Heir {
    type Reply = ();
    fn handle(&mut self, message: &Bequeath, context: &mut Context) -> Result<(), NoError> {
        self.told += 1;
        let left = message.0.checked_sub(1).expect("nothing is left");
        context.forward(ActorRef::<Self>::new(context.key() + 1), &Bequeath(left))
    }
}

impl Handler<Consult> for Heir {
    type Reply = ();
    fn handle(&mut self, _message: &Consult, context: &mut Context) -> Result<(), NoError> {
        self.told += 1;
        context.ask::<Ask, Told>(ActorRef::new(context.key() + 1), &Ask {}, 0);
        context.forward(ActorRef::<Self>::new(context.key() + 2), &Ask {})
    }
}

impl Handler<Ask> for Heir {
    type Reply = ();
    fn handle(&mut self, _message: &Ask, _context: &mut Context) -> Result<(), NoError> {
        self.asked += 1;
        Ok(())
    }
}

impl Handler<Told> for Heir {
    type Reply = ();
    fn handle(&mut self, answer: &Told, _context: &mut Context) -> Result<(), NoError> {
        self.answers += u64::from(answer.0.result().is_ok());
        Ok(())
    }
}

actor!(Heir {
    kind: 705, letters: true, error: NoError,
    messages: { 0: Testify, 1: Bequeath, 2: Consult, 3: Ask, 4: Told, 5: Hesitate },
});
system! { struct Heirs = [Heir]; }

/// Letters that follow from each other in one shard: each is noted of the heir that it came to. How many gates the engine has.
fn bequeath_and_consult(builder: EngineBuilder) -> u32 {
    let engine = builder.shards(1).actors_per_shard(64).build().unwrap();
    let mut client = client(&engine);
    // Those that begin take the long way.
    for key in 1..=8 {
        client.call(key, Ask {}).unwrap();
    }
    for round in 1..=3 {
        client.call(1, Testify {}).unwrap();
        quiet(&engine);
        for _ in 0..CONSULTED {
            client.call(5, Hesitate {}).unwrap();
            quiet(&engine);
        }
        let heir = |key: u64| engine.inspect::<Heir>(key).unwrap().unwrap().1;
        assert_eq!([2, 3, 4, 6].map(|key| heir(key).told), [round, round, 0, CONSULTED * round]);
        assert_eq!([7, 8].map(|key| heir(key).asked), [1 + CONSULTED * round; 2]);
        assert_eq!((heir(6).answers, counters(&engine)[Counter::Panicked as usize]), (CONSULTED * round, round));
    }
    engine.geometry().gates
}

on_backends! {
    [native_1, native_3, simt_4, simt_32, simt_32_hostile]
    /// Letters that follow from each other in one shard, whose lane runs them in a row: what one of them leaves to others is not noted of the
    /// next, which panics or is to be answered.
    fn what_is_handed_on_is_noted_of_one_letter(bench: &Bench) {
        bequeath_and_consult(bench.builder_for(Heirs::image()));
    }
}

on_backends! {
    [simt_32, simt_32_hostile]
    /// The same where no lanes are left to look whether another letter has come: seven gates and a mailbox take all of a warp.
    fn letters_are_run_where_no_lanes_look_ahead(bench: &Bench) {
        let geometry = GpuGeometry { gates: 7, warps_per_block: 8, blocks: None };
        assert_eq!(bequeath_and_consult(bench.builder_for(Heirs::image()).geometry(geometry)), 7);
    }
}
