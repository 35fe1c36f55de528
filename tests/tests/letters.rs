//! Messages between actors: each comes exactly once and in order, whatever the capacities are; questions are answered, and what cannot be
//! sent fails with a reason.

use std::time::Duration;

use tourbillon::actors::courier::{
    Correspond, Ending, Flood, Inquire, Note, Overreach, Refused, Relay, Report, Roam, Route, SENDERS,
};
use tourbillon::{
    ActorRef, Answered, Answers, CallError, Client, Context, Counter, Engine, EngineBuilder, EngineError, FailureCode,
    Handler, MailboxUsage, NoError, Options, Plain, QuiesceError, State, actor, system,
};
use tourbillon_bank::Courier;
use tourbillon_tests::bench::{client, counters, mixed};
use tourbillon_tests::{Bench, on_backends, on_every_backend};

/// How long a test waits for the last letter.
const QUIET_TIME_MAX: Duration = Duration::from_secs(60);

fn builder(bench: &Bench) -> EngineBuilder {
    bench.builder_for(tourbillon_bank::image()).actors_per_shard(4096)
}

/// Waits until nothing is under way, and checks that mailboxes are as empty as they were.
fn quiet(engine: &Engine) -> Vec<MailboxUsage> {
    let traffic = engine.quiesce(QUIET_TIME_MAX).unwrap();
    engine.pause().unwrap();
    let mailboxes = engine.mailboxes().unwrap();
    engine.resume().unwrap();
    let sum = |figure: fn(&MailboxUsage) -> u64| mailboxes.iter().map(figure).sum::<u64>();
    assert_eq!(sum(|mailbox| mailbox.sent), sum(|mailbox| mailbox.received));
    assert_eq!(sum(|mailbox| mailbox.sent), traffic.letters);
    for (shard, mailbox) in mailboxes.iter().enumerate() {
        assert_eq!(mailbox.slots_put, mailbox.slots_taken, "shard {shard}: {mailbox:?}");
        assert_eq!(mailbox.waiting, 0, "shard {shard}: {mailbox:?}");
    }
    mailboxes
}

fn report(client: &mut Client, key: u64) -> Courier {
    client.call(key, Report {}).unwrap()
}

/// Sends `count` notes from each of `senders` to each of `receivers`, all numbered from 1 for each pair, and checks what came.
fn correspond(engine: &Engine, senders: u64, receivers: u64, count: u32) {
    let mut client = client(engine);
    for receiver in 0..receivers {
        for sender in 0..senders {
            client.call(sender, Correspond { to: 1000 + receiver, first: 1, count }).unwrap();
        }
    }
    quiet(engine);
    for receiver in 0..receivers {
        let courier = report(&mut client, 1000 + receiver);
        assert_eq!(courier.out_of_order, 0, "{courier:?}");
        assert_eq!(courier.received, senders * u64::from(count));
        let digest = (0..senders).flat_map(|from| (1..=count).map(move |number| u64::from(number) ^ from << 32));
        assert_eq!(courier.digest, digest.fold(0, u64::wrapping_add));
        assert_eq!(courier.last[..senders as usize], vec![count; senders as usize]);
    }
}

on_every_backend! {
    /// Several actors write to several others at the same time.
    fn letters_come_once_and_in_order(bench: &Bench) {
        let engine = builder(bench).build().unwrap();
        correspond(&engine, SENDERS as u64, 3, bench.scale(20_000, 60) as u32);
    }
}

on_every_backend! {
    /// Mailboxes that are full nearly all the time: letters wait in overflows, and pass none of their kind.
    fn letters_keep_their_order_through_overflows(bench: &Bench) {
        let engine = builder(bench).mailbox_capacity(32).overflow_capacity(1024).build().unwrap();
        correspond(&engine, SENDERS as u64, 3, bench.scale(5_000, 60) as u32);
        assert!(counters(&engine)[Counter::LettersOverflowed as usize] > 0);
    }
}

on_every_backend! {
    /// Senders that wait for nothing: most letters go by way of an overflow, while room comes and goes.
    fn floods_keep_their_order(bench: &Bench) {
        let engine = builder(bench).mailbox_capacity(32).overflow_capacity(1 << 13).build().unwrap();
        let mut client = client(&engine);
        let (senders, count) = (4, bench.scale(1_500, 90) as u32);
        for sender in 0..senders {
            client.call(sender, Flood { to: 1000, first: 1, count }).unwrap();
        }
        quiet(&engine);
        let courier = report(&mut client, 1000);
        assert_eq!((courier.received, courier.out_of_order), (senders * u64::from(count), 0));
        assert!(counters(&engine)[Counter::LettersOverflowed as usize] > 0);
    }
}

on_every_backend! {
    /// Two actors in mailboxes of the smallest size, with as many messages between them as there is room for.
    fn a_circle_of_full_mailboxes_makes_progress(bench: &Bench) {
        let engine = builder(bench).mailbox_capacity(32).overflow_capacity(32).build().unwrap();
        let mut client = client(&engine);
        let hops = bench.scale(20_000, 100) as u32;
        // Half in one direction, half in the other.
        for roam in 0..16u64 {
            client.call(roam % 2, Roam::new(hops, Route::Pair, 2, mixed(roam))).unwrap();
        }
        quiet(&engine);
        let received: u64 = (0..2).map(|key| report(&mut client, key).received).sum();
        assert_eq!(received, 16 * (u64::from(hops) + 1));
    }
}

on_every_backend! {
    fn messages_roam_over_all_shards(bench: &Bench) {
        let engine = builder(bench).build().unwrap();
        let mut client = client(&engine);
        let (roams, hops) = (bench.scale(400, 20), bench.scale(2_000, 40) as u32);
        for route in [Route::Ring, Route::Random, Route::Tree, Route::Skewed, Route::Pair] {
            for roam in 0..roams {
                client.call(roam % 128, Roam::new(hops, route, 128, mixed(roam))).unwrap();
            }
        }
        // The engine is interrupted meanwhile.
        engine.pause().unwrap();
        engine.resume().unwrap();
        engine.relaunch().unwrap();
        let mailboxes = quiet(&engine);
        let received: u64 = (0..128).map(|key| report(&mut client, key).received).sum();
        assert_eq!(received, 5 * roams * (u64::from(hops) + 1));
        // 128 actors do not reach every shard of a GPU, but many.
        let busy = mailboxes.iter().filter(|mailbox| mailbox.sent > 0).count();
        assert!(busy >= mailboxes.len().min(64), "{busy} of {} shards", mailboxes.len());
    }
}

on_every_backend! {
    fn questions_are_answered_once(bench: &Bench) {
        let engine = builder(bench).build().unwrap();
        let mut client = client(&engine);
        let questions = bench.scale(2_000, 40) as u32;
        for word in 1..=questions {
            client.call(1, Inquire { of: 2 + u64::from(word % 5), word, ending: Ending::Reply }).unwrap();
        }
        quiet(&engine);
        let courier = report(&mut client, 1);
        assert_eq!((courier.answers, courier.failures), (questions.into(), 0));
        assert_eq!(courier.answer_digest, (1..=u64::from(questions)).map(|word| word * 2).sum::<u64>());
        let asked: u64 = (2..7).map(|key| report(&mut client, key).asked).sum();
        assert_eq!(asked, u64::from(questions));
    }
}

on_every_backend! {
    /// The last failure says why, and who asked goes on.
    fn questions_that_fail_are_answered_with_why(bench: &Bench) {
        let engine = builder(bench).build().unwrap();
        let mut client = client(&engine);
        let mut expected = (0, 0);
        for (ending, failure) in [
            (Ending::Reply, None),
            (Ending::Error, Some(7 << 32 | FailureCode::Handler as u64)),
            (Ending::Panic, Some(FailureCode::Panicked as u64)),
            (Ending::Circle, Some(FailureCode::TooManyHops as u64)),
            (Ending::Forward, None),
            // Of itself: the answer comes when the handler that asks has ended.
            (Ending::Reply, None),
        ] {
            let of = if expected.0 == 5 { 1 } else { 2 };
            client.call(1, Inquire { of, word: 7, ending }).unwrap();
            quiet(&engine);
            expected = (expected.0 + 1, expected.1 + u64::from(failure.is_some()));
            let courier = report(&mut client, 1);
            assert_eq!((courier.answers, courier.failures), expected, "{ending:?}");
            if let Some(failure) = failure {
                assert_eq!(courier.last_failure, failure, "{ending:?}");
            }
        }
    }
}

on_every_backend! {
    /// No more questions are open than there is room for their answers, and all room comes back.
    fn room_for_answers_is_bounded_and_comes_back(bench: &Bench) {
        let engine = builder(bench).shards(1).mailbox_capacity(32).overflow_capacity(1024).build().unwrap();
        let mut client = client(&engine);
        let questions = bench.scale(2_000, 100) as u32;
        let (mut asked, mut refused) = (0, 0);
        let all: Vec<_> = (1..=questions).map(|word| (1, Inquire { of: 2, word, ending: Ending::Reply })).collect();
        for result in client.call_many(all) {
            match result {
                Ok(()) => asked += 1,
                Err(CallError::TooManyQuestions) => refused += 1,
                Err(error) => panic!("{error}"),
            }
        }
        let mailboxes = quiet(&engine);
        // A warp of many lanes takes more messages at once than there is room for answers.
        assert!(refused > 0 || bench.is_narrow());
        assert_eq!(asked + refused, u64::from(questions));
        let courier = report(&mut client, 1);
        assert_eq!((courier.answers, courier.failures), (asked, 0));
        assert_eq!(mailboxes[0].answer_room, 16);
    }
}

on_every_backend! {
    /// A client's request is answered by the last of a chain of actors.
    fn requests_are_handed_on(bench: &Bench) {
        let engine = builder(bench).build().unwrap();
        let mut client = client(&engine);
        for left in 0..=32u32 {
            assert_eq!(client.call(3, Relay { left, couriers: 16 }), Ok((3 + u64::from(left)) % 16));
        }
        assert_eq!(client.call(3, Relay { left: 33, couriers: 16 }), Err(CallError::TooManyHops { most: 32 }));
        assert_eq!(client.call(3, Relay { left: u32::MAX, couriers: 1 }), Err(CallError::TooManyHops { most: 32 }));
        client.send(3, Relay { left: 9, couriers: 16 }).unwrap();
        client.flush(QUIET_TIME_MAX).unwrap();
        quiet(&engine);
    }
}

on_every_backend! {
    fn what_cannot_be_sent_fails_and_leaves_no_trace(bench: &Bench) {
        let engine = builder(bench).build().unwrap();
        let mut client = client(&engine);
        let mut overreach = |letters, forwards| client.call(1, Overreach { letters, forwards, to: 2 });
        assert_eq!(overreach(4, 0), Ok(1));
        assert_eq!(overreach(5, 0), Err(CallError::TooManyLetters { most: 4 }));
        assert_eq!(overreach(100_000, 0), Err(CallError::TooManyLetters { most: 4 }));
        assert_eq!(overreach(0, 2), Err(CallError::CannotForward));
        assert_eq!(overreach(2, 1), Ok(2));
        assert_eq!(overreach(2, 0), Ok(3));
        quiet(&engine);
        // Two of the successful messages were counted by the first actor, and one by the second, which answered in its place.
        assert_eq!(report(&mut client, 1).asked, 3);
        assert_eq!(report(&mut client, 2).received, 4 + 2 + 2);
        let with_id = Options::new().message_id(5);
        let refused = client.call_with(1, Relay { left: 1, couriers: 4 }, with_id).map(|answer| answer.value);
        assert_eq!(refused, Err(CallError::CannotForward));
        assert_eq!(report(&mut client, 1).asked, 3);
        // What was reserved for what was not sent has come back; shards tell of the rest when they stop. 64 slots are for broadcasts.
        engine.relaunch().unwrap();
        for mailbox in quiet(&engine) {
            assert_eq!((mailbox.room, mailbox.answer_room, mailbox.overflow_room), (1024 - 64, 1024, 2048));
        }
    }
}

/// Answers much to little.
#[repr(C)]
#[derive(Clone, Copy, State)]
struct Talker {
    asked: u64,
    answered: u64,
}

/// Begins to talk with other talkers: one is told, one is asked, and one is asked that hands on.
#[repr(C)]
#[derive(Clone, Copy, Plain)]
struct Begin {}

/// Hands itself on as often as this.
#[repr(C)]
#[derive(Clone, Copy, Plain)]
struct Talk(u32);

#[repr(transparent)]
#[derive(Clone, Copy, Plain)]
struct Talked(Answered<Talk>);
impl Answers<Talk> for Talked {}

impl Handler<Begin> for Talker {
    type Reply = ();
    fn handle(&mut self, _message: &Begin, context: &mut Context) -> Result<(), NoError> {
        context.tell(ActorRef::<Self>::new(2), &Talk(0));
        context.ask::<Talk, Talked>(ActorRef::<Self>::new(3), &Talk(0), 0);
        context.ask::<Talk, Talked>(ActorRef::<Self>::new(4), &Talk(2), 0);
        Ok(())
    }
}

impl Handler<Talk> for Talker {
    type Reply = [u64; 30];
    fn handle(&mut self, talk: &Talk, context: &mut Context) -> Result<[u64; 30], NoError> {
        self.asked += 1;
        if talk.0 != 0 {
            return context.forward(ActorRef::<Self>::new(context.key() + 1), &Talk(talk.0 - 1));
        }
        Ok([context.key(); 30])
    }
}

impl Handler<Talked> for Talker {
    type Reply = ();
    fn handle(&mut self, answer: &Talked, _context: &mut Context) -> Result<(), NoError> {
        let by = answer.0.result().map_or(u64::MAX, |words| words[29]);
        self.answered = self.answered.wrapping_add(by);
        Ok(())
    }
}

actor!(Talker { kind: 701, letters: true, error: NoError, messages: { 0: Begin, 1: Talk, 2: Talked } });
system! { struct Talkers = [Talker]; }

on_backends! {
    [native_1, native_3, simt_4, simt_32, simt_32_hostile]
    fn replies_may_be_longer_than_what_they_answer(bench: &Bench) {
        let engine = bench.builder_for(Talkers::image()).actors_per_shard(64).build().unwrap();
        let mut client = client(&engine);
        client.call(1, Begin {}).unwrap();
        assert_eq!(client.call(7, Talk(2)), Ok([9; 30]));
        quiet(&engine);
        let talker = |key: u64| engine.inspect::<Talker>(key).unwrap().unwrap().1;
        // The told one, the one that was asked, and the last of those that handed on.
        assert_eq!([2, 3, 6, 9].map(|key| talker(key).asked), [1; 4]);
        assert_eq!(talker(1).answered, 3 + 6);
    }
}

/// Sends without having said so.
#[repr(C)]
#[derive(Clone, Copy, State)]
struct Silent {
    spoken: u64,
}

#[repr(C)]
#[derive(Clone, Copy, Plain)]
struct Speak {}

impl Handler<Speak> for Silent {
    type Reply = u64;
    fn handle(&mut self, _message: &Speak, context: &mut Context) -> Result<u64, NoError> {
        self.spoken += 1;
        context.tell(ActorRef::<Silent>::new(1), &Speak {});
        Ok(self.spoken)
    }
}

actor!(Silent { kind: 700, error: NoError, messages: { 0: Speak } });
system! { struct Quiet = [Silent]; }
system! { struct Mixed = [Silent, Courier]; }

/// Tells others what they reply to at length, or with an error.
#[repr(C)]
#[derive(Clone, Copy, State)]
struct Loud {
    heard: u64,
    refused: u64,
}

/// Makes it tell another one.
#[repr(C)]
#[derive(Clone, Copy, Plain)]
struct Murmur {
    to: u64,
}

/// The reply is longer than the message.
#[repr(C)]
#[derive(Clone, Copy, Plain)]
struct Hear {}

/// The error is longer than the message.
#[repr(C)]
#[derive(Clone, Copy, Plain)]
struct Refuse {}

impl Handler<Murmur> for Loud {
    type Reply = ();
    fn handle(&mut self, murmur: &Murmur, context: &mut Context) -> Result<(), [u64; 8]> {
        context.tell(ActorRef::<Self>::new(murmur.to), &Hear {});
        context.tell(ActorRef::<Self>::new(murmur.to), &Refuse {});
        Ok(())
    }
}

impl Handler<Hear> for Loud {
    type Reply = [u64; 16];
    fn handle(&mut self, _hear: &Hear, _context: &mut Context) -> Result<[u64; 16], [u64; 8]> {
        self.heard += 1;
        Ok([u64::MAX; 16])
    }
}

impl Handler<Refuse> for Loud {
    type Reply = ();
    fn handle(&mut self, _refuse: &Refuse, _context: &mut Context) -> Result<(), [u64; 8]> {
        self.refused += 1;
        Err([u64::MAX; 8])
    }
}

actor!(Loud { kind: 902, letters: true, error: [u64; 8], messages: { #[outlined] 0: Murmur, 1: Hear, 2: Refuse } });
system! { struct Louds = [Loud]; }

on_backends! {
    [native_1, native_3, simt_4, simt_32]
    /// Nobody reads the reply to what an actor tells another: it may be larger than the message, as may be an error.
    fn replies_that_nobody_reads_may_be_long(bench: &Bench) {
        let engine = bench.builder_for(Louds::image()).actors_per_shard(64).build().unwrap();
        let mut client = client(&engine);
        for to in [2, 3, 2] {
            client.call(1, Murmur { to }).unwrap();
        }
        quiet(&engine);
        for (key, heard) in [(2, 2), (3, 1)] {
            let loud = engine.inspect::<Loud>(key).unwrap().unwrap().1;
            assert_eq!((loud.heard, loud.refused), (heard, 0));
        }
        // As errors of their handlers, not for being too large.
        let counters = counters(&engine);
        let last = counters[Counter::LastFailure as usize];
        assert_eq!((counters[Counter::Failed as usize], last), (3, FailureCode::Handler as u64));
    }
}

on_backends! {
    [native_1, native_3, simt_4, simt_32]
    fn who_sends_says_so(bench: &Bench) {
        for image in [Quiet::image(), Mixed::image()] {
            let engine = bench.builder_for(image).actors_per_shard(64).build().unwrap();
            let mut client = client(&engine);
            assert_eq!(client.call(1, Speak {}), Err(CallError::LettersUndeclared));
            assert_eq!(engine.inspect::<Silent>(1).unwrap().unwrap().1.spoken, 0);
        }
    }
}

on_every_backend! {
    /// There is no room any more, neither in the mailbox nor in the overflow: whoever sends gets an error or, where nobody waits for it, a
    /// dead letter says so, and everything else is delivered.
    fn exhausted_overflows_are_told(bench: &Bench) {
        let engine = builder(bench).shards(1).mailbox_capacity(32).overflow_capacity(32).dead_letters(4096).build().unwrap();
        let mut client = client(&engine);
        let (senders, count) = (bench.scale(64, 48) as u32, 9);
        let mut expected = 0;
        let mut refused = 0;
        let calls: Vec<_> = (0..u64::from(senders)).map(|sender| (sender, Flood { to: 1000, first: 1, count })).collect();
        for result in client.call_many(calls) {
            match result {
                Ok(()) => expected += count,
                Err(CallError::MailboxFull { hops: 0 }) => refused += 1,
                Err(error) => panic!("{error}"),
            }
        }
        quiet(&engine);
        let mut lost = 0;
        for letter in engine.dead_letters().unwrap() {
            assert_eq!((letter.reason(), letter.lane()), (FailureCode::MailboxFull, None));
            let rest: Flood = Plain::from_bytes(letter.payload()).unwrap();
            lost += rest.count;
        }
        let courier = report(&mut client, 1000);
        assert_eq!(courier.received, u64::from(expected - lost));
        assert_eq!(engine.mailboxes().unwrap()[0].refused > 0, refused != 0 || lost != 0);
    }
}

on_every_backend! {
    fn letters_to_those_that_fail_are_counted(bench: &Bench) {
        let engine = builder(bench).build().unwrap();
        let mut client = client(&engine);
        for (key, ending) in [(1, Ending::Error), (2, Ending::Panic)] {
            let note = Note { from: 0, number: 1, ending };
            let failed = client.call(key, note);
            assert!(match ending {
                Ending::Error => failed == Err(CallError::Handler(Refused { word: 1 })),
                _ => matches!(failed, Err(CallError::Panicked { .. })),
            });
        }
        quiet(&engine);
    }
}

on_every_backend! {
    /// What never ends is told, with what is under way.
    fn traffic_without_end_is_told(bench: &Bench) {
        let engine = builder(bench).build().unwrap();
        let mut client = client(&engine);
        client.call(0, Roam::new(u32::MAX, Route::Pair, 2, 1)).unwrap();
        let error = engine.quiesce(Duration::from_millis(50)).unwrap_err();
        let QuiesceError::Timeout { traffic, mailboxes, .. } = error else { panic!("{error}") };
        assert!(traffic.letters > 0 && mailboxes.len() == engine.geometry().shards as usize);
    }
}

#[test]
fn capacities_are_checked() {
    let builder = || Engine::builder_for(tourbillon_bank::image()).backend(tourbillon::Backend::Cpu);
    for (error, figure) in [
        (builder().mailbox_capacity(16).build().unwrap_err(), "mailbox_capacity"),
        (builder().mailbox_capacity(1 << 17).build().unwrap_err(), "mailbox_capacity"),
        (builder().overflow_capacity(0).build().unwrap_err(), "overflow_capacity"),
        (builder().overflow_capacity(1 << 17).build().unwrap_err(), "overflow_capacity"),
    ] {
        assert!(matches!(&error, EngineError::Geometry(error) if error.figure == figure), "{error}");
    }
    for (error, expected) in [
        (builder().mailbox_capacity(100).build().unwrap_err(), "mailbox_capacity"),
        (builder().overflow_capacity(33).build().unwrap_err(), "overflow_capacity"),
    ] {
        assert!(matches!(&error, EngineError::NotPowerOfTwo { figure, .. } if *figure == expected), "{error}");
    }
}
