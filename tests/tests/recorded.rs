//! A recording of messages ends in the same replies and the same states on every machine.
//!
//! One thread drives several clients' lanes in the order that a seed gives. The machine may take lanes in any order, so
//! two lanes never write to one actor at a time: an actor belongs to one client for a round, and after the round every
//! lane is empty and the actors change hands. Within a round dozens of messages of all kinds are in flight. What must
//! come of them follows from one promise: order holds for each lane and actor.
//!
//! Every machine is compared with a plain oracle and with one CPU thread. Timestamps differ from run to run and are
//! left out.

use std::collections::{BTreeMap, HashMap};

use tourbillon::actors::account::{AccountError, Balance, Deposit, Refusal, Withdraw};
use tourbillon::actors::counter::{Add, Added, CounterError, Get, SENDERS};
use tourbillon::actors::echo::{Ping16, Ping64, Ping352};
use tourbillon::actors::faulty::{Fault, FaultyError, Trigger};
use tourbillon::actors::{Account, Counter, Echo, Faulty};
use tourbillon::{Actor, CallError, Client, Engine, ErrorOf, Message, Mode, Pipeline, Plain, ReplyOf};
use tourbillon_tests::bench::{REPLY_TIME_MAX, client, counters, mixed};
use tourbillon_tests::{Bench, Place, on_every_backend};

/// Clients, each with a lane of its own.
const CLIENTS: usize = 3;
/// Keys; each is the key of one actor of every kind.
const KEYS: u64 = 7;
/// Kinds of actors.
const KINDS: u64 = 4;
/// Slots of a ring: so few that every round fills the lanes and goes round them.
const RING_SLOTS: u32 = 64;
/// Shards: fewer than actors, so that windows hold messages of several.
const SHARDS: u32 = 4;

/// How long a recording is.
#[derive(Clone, Copy, Debug)]
struct Length {
    rounds: u64,
    tells: u64,
    run: u64,
    calls: u64,
}

/// A reply: the bytes of the value or of the handler's own error, or where the handler panicked.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Answer<P> {
    Value(Vec<u8>),
    Refused(Vec<u8>),
    Panicked(P),
}

/// Line and column of a panic.
type Spot = (u32, u32);

fn answer_of<M: Message>(reply: Result<ReplyOf<M>, CallError<ErrorOf<M>>>) -> Answer<Spot> {
    match reply {
        Ok(value) => Answer::Value(value.as_bytes().to_vec()),
        Err(CallError::Handler(error)) => Answer::Refused(error.as_bytes().to_vec()),
        Err(CallError::Panicked { line, column, .. }) => Answer::Panicked((line, column)),
        Err(other) => panic!("{other}"),
    }
}

/// A pipeline of messages of one type.
trait Line {
    /// Sends a message of the line's type; whether there was room.
    fn push(&mut self, key: u64, said: &Said) -> bool;
    /// Waits for the reply to the oldest message.
    fn pop(&mut self) -> Option<Answer<Spot>>;
}

/// Makes of a list of message types: any of them, and what a client does with it.
macro_rules! said {
    ($($message:ident),+) => {
        /// A message of any type.
        #[derive(Clone, Copy, Debug)]
        #[expect(clippy::large_enum_variant, reason = "a recording is small, whatever its messages take")]
        enum Said {
            $($message($message)),+
        }

        impl Said {
            fn call(self, client: &mut Client, key: u64) -> Answer<Spot> {
                match self { $(Self::$message(message) => answer_of::<$message>(client.call(key, message))),+ }
            }

            fn tell(self, client: &mut Client, key: u64) {
                match self { $(Self::$message(message) => client.send(key, message).expect("the engine accepts")),+ }
            }

            fn line<'c>(&self, client: &'c mut Client) -> Box<dyn Line + 'c> {
                match self { $(Self::$message(_) => Box::new(client.pipeline::<$message>())),+ }
            }
        }

        $(impl Line for Pipeline<'_, $message> {
            fn push(&mut self, key: u64, said: &Said) -> bool {
                let Said::$message(message) = said else { panic!("{said:?} in a line of another type") };
                Pipeline::push(self, key, message).expect("the engine accepts")
            }

            fn pop(&mut self) -> Option<Answer<Spot>> {
                Pipeline::pop(self).map(answer_of::<$message>)
            }
        })+
    };
}

said!(Ping16, Ping64, Ping352, Add, Get, Deposit, Withdraw, Balance, Trigger);

/// A message with its way.
#[derive(Clone, Copy, Debug)]
struct Letter {
    client: usize,
    key: u64,
    said: Said,
}

/// What happens between two rounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pause {
    Nothing,
    Relaunch,
    Rest,
}

/// What one thread does with all lanes before they are empty again: tells, then lines with their messages dealt out
/// among the clients, then calls one by one.
#[derive(Clone, Debug)]
struct Round {
    tells: Vec<Letter>,
    lines: Vec<Letter>,
    calls: Vec<Letter>,
    pause: Pause,
}

/// Draws numbers; the same seed draws the same ones.
struct Dice {
    seed: u64,
    drawn: u64,
}

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.drawn += 1;
        mixed(mixed(self.seed) ^ self.drawn) % bound
    }

    /// A message of the type that `form` numbers, to one of its actors.
    fn said(&mut self, form: u64) -> Said {
        fn words<const N: usize>(dice: &mut Dice) -> [u32; N] {
            std::array::from_fn(|_| dice.below(1 << 32) as u32)
        }
        // Now and then past what an account holds, or takes.
        let amount = if self.below(8) == 0 { u64::MAX - self.below(50) } else { self.below(200) };
        match form {
            0 => Said::Ping16(Ping16 { words: words(self) }),
            1 => Said::Ping64(Ping64 { words: words(self) }),
            2 => Said::Ping352(Ping352 { words: words(self) }),
            3 => Said::Add(Add {
                amount: self.below(1 << 32) as u32,
                sender: self.below(SENDERS as u64 + 1) as u32,
                sequence: if self.below(9) == 0 { 1 << 32 } else { self.below(1 << 32) },
            }),
            4 => Said::Get(Get {}),
            5 => Said::Deposit(Deposit { amount }),
            6 => Said::Withdraw(Withdraw { amount }),
            7 => Said::Balance(Balance {}),
            _ => {
                let fault = match self.below(12) {
                    0 => Fault::Index,
                    1 => Fault::Divide,
                    2 => Fault::Overflow,
                    3 => Fault::Panic,
                    4 | 5 => Fault::Error,
                    _ => Fault::Nothing,
                };
                Said::Trigger(Trigger { fault, argument: self.below(1 << 32) as u32 })
            }
        }
    }
}

/// Message types, by number.
const FORMS: u64 = 9;
/// The kind of the actors that take the messages of each type.
const KIND_OF_FORM: [u64; FORMS as usize] = [0, 0, 0, 1, 1, 2, 2, 2, 3];

/// Who may write to which actor in a round.
struct Owners(Vec<usize>);

impl Owners {
    fn deal(dice: &mut Dice) -> Self {
        Self((0..KINDS * KEYS).map(|_| dice.below(CLIENTS as u64) as usize).collect())
    }

    /// A message of type `form` from a client to one of its actors, if it has one of that kind.
    fn letter(&self, dice: &mut Dice, client: usize, form: u64) -> Option<Letter> {
        let kind = KIND_OF_FORM[form as usize];
        let mine: Vec<u64> = (0..KEYS).filter(|key| self.0[(kind * KEYS + key) as usize] == client).collect();
        let index = *mine.get(dice.below(mine.len().max(1) as u64) as usize)?;
        Some(Letter { client, key: mixed(index), said: dice.said(form) })
    }
}

fn record(seed: u64, length: Length) -> Vec<Round> {
    let dice = &mut Dice { seed, drawn: 0 };
    let round = |number: u64| {
        let owners = Owners::deal(dice);
        let form_of_line: [u64; CLIENTS] = std::array::from_fn(|_| dice.below(FORMS));
        let mut any = |count: u64, form: &dyn Fn(&mut Dice, usize) -> u64| -> Vec<Letter> {
            let letter = |_| {
                let client = dice.below(CLIENTS as u64) as usize;
                let form = form(dice, client);
                owners.letter(dice, client, form)
            };
            (0..count).filter_map(letter).collect()
        };
        let tells = any(length.tells, &|dice, _| dice.below(FORMS));
        let lines = any(length.run, &|_, client| form_of_line[client]);
        let calls = any(length.calls, &|dice, _| dice.below(FORMS));
        let pause = [Pause::Nothing, Pause::Relaunch, Pause::Nothing, Pause::Rest][number as usize % 4];
        Round { tells, lines, calls, pause }
    };
    (0..length.rounds).map(round).collect()
}

/// Versions and states of all actors that were ever activated.
#[derive(Clone, Debug, Default, PartialEq)]
struct World {
    echoes: BTreeMap<u64, (u64, Echo)>,
    counters: BTreeMap<u64, (u64, Counter)>,
    accounts: BTreeMap<u64, (u64, Account)>,
    faulties: BTreeMap<u64, (u64, Faulty)>,
}

fn states<A: Actor>(engine: &Engine) -> BTreeMap<u64, (u64, A)> {
    let state = |key| {
        let (entry, state) = engine.inspect::<A>(key).expect("the actor is looked at")?;
        assert_eq!(entry.version == 0, entry.hlc == 0, "{} {key}: an actor that has handled has a timestamp", A::NAME);
        Some((key, (entry.version, state)))
    };
    (0..KEYS).map(mixed).filter_map(state).collect()
}

impl World {
    fn of(engine: &Engine) -> Self {
        Self { echoes: states(engine), counters: states(engine), accounts: states(engine), faulties: states(engine) }
    }

    fn actors(&self) -> u64 {
        (self.echoes.len() + self.counters.len() + self.accounts.len() + self.faulties.len()) as u64
    }

    fn versions(&self) -> u64 {
        fn sum<A>(states: &BTreeMap<u64, (u64, A)>) -> u64 {
            states.values().map(|(version, _)| version).sum()
        }
        sum(&self.echoes) + sum(&self.counters) + sum(&self.accounts) + sum(&self.faulties)
    }

    /// What the oracle says of a message: by the actors' documentation, without their code.
    fn hear(&mut self, key: u64, said: &Said) -> Answer<Fault> {
        fn value(value: &impl Plain) -> Answer<Fault> {
            Answer::Value(value.as_bytes().to_vec())
        }
        fn refused(error: &impl Plain) -> Answer<Fault> {
            Answer::Refused(error.as_bytes().to_vec())
        }
        fn entry<A: Plain>(states: &mut BTreeMap<u64, (u64, A)>, key: u64) -> &mut (u64, A) {
            states
                .entry(key)
                .or_insert_with(|| (0, A::from_bytes(&vec![0; size_of::<A>()]).expect("all zero is a state of each")))
        }
        let (version, answer) = match said {
            Said::Ping16(_) | Said::Ping64(_) | Said::Ping352(_) => {
                let (version, echo) = entry(&mut self.echoes, key);
                echo.returned += 1;
                let answer = match said {
                    Said::Ping16(ping) => value(ping),
                    Said::Ping64(ping) => value(ping),
                    Said::Ping352(ping) => value(ping),
                    _ => unreachable!("matched above"),
                };
                (version, answer)
            }
            Said::Add(add) => {
                let (version, counter) = entry(&mut self.counters, key);
                let answer = if add.sender as usize >= SENDERS {
                    refused(&CounterError::SenderOutOfRange)
                } else if add.sequence > u32::MAX.into() {
                    refused(&CounterError::SequenceTooLarge)
                } else {
                    let last = &mut counter.last_sequence[add.sender as usize];
                    let added = Added { previous: counter.value, last_sequence: (*last).into() };
                    *last = add.sequence as u32;
                    counter.value += u64::from(add.amount);
                    value(&added)
                };
                (version, answer)
            }
            Said::Get(Get {}) => {
                let (version, counter) = entry(&mut self.counters, key);
                (version, value(&counter.value))
            }
            Said::Deposit(_) | Said::Withdraw(_) | Said::Balance(_) => {
                let (version, Account { balance }) = entry(&mut self.accounts, key);
                let (after, refusal) = match said {
                    Said::Deposit(deposit) => (i128::from(*balance) + i128::from(deposit.amount), Refusal::TooMuch),
                    Said::Withdraw(withdraw) => {
                        (i128::from(*balance) - i128::from(withdraw.amount), Refusal::InsufficientFunds)
                    }
                    _ => (i128::from(*balance), Refusal::TooMuch),
                };
                let answer = match u64::try_from(after) {
                    Ok(after) => {
                        *balance = after;
                        value(balance)
                    }
                    Err(_) => refused(&AccountError { refusal, balance: *balance }),
                };
                (version, answer)
            }
            Said::Trigger(Trigger { fault, argument }) => {
                let (version, faulty) = entry(&mut self.faulties, key);
                let answer = match fault {
                    Fault::Nothing => {
                        faulty.handled += 1;
                        value(&faulty.handled)
                    }
                    Fault::Error => refused(&FaultyError { argument: *argument }),
                    fault => Answer::Panicked(*fault),
                };
                (version, answer)
            }
        };
        *version += u64::from(matches!(answer, Answer::Value(_)));
        answer
    }
}

/// What a recording leaves behind.
#[derive(Clone, Debug, PartialEq)]
struct Outcome<P> {
    /// Replies to each client, in the order of its messages.
    answers: Vec<Vec<Answer<P>>>,
    /// Tells of each client that were handled, and that failed.
    tells: Vec<(u64, u64)>,
    world: World,
}

/// What must come of a recording.
fn foretell(recording: &[Round]) -> Outcome<Fault> {
    let mut world = World::default();
    let (mut answers, mut tells) = (vec![Vec::new(); CLIENTS], vec![(0, 0); CLIENTS]);
    for round in recording {
        for letter in &round.tells {
            let (done, failed) = &mut tells[letter.client];
            match world.hear(letter.key, &letter.said) {
                Answer::Value(_) => *done += 1,
                Answer::Refused(_) | Answer::Panicked(_) => *failed += 1,
            }
        }
        for letter in round.lines.iter().chain(&round.calls) {
            answers[letter.client].push(world.hear(letter.key, &letter.said));
        }
    }
    Outcome { answers, tells, world }
}

fn play_round(clients: &mut [Client], round: &Round, answers: &mut [Vec<Answer<Spot>>]) {
    for letter in &round.tells {
        letter.said.tell(&mut clients[letter.client], letter.key);
    }
    {
        let first = |client| round.lines.iter().find(|letter| letter.client == client);
        let open = |(number, client)| first(number).map(|letter: &Letter| letter.said.line(client));
        let mut lines: Vec<_> = clients.iter_mut().enumerate().map(open).collect();
        for letter in &round.lines {
            let line = lines[letter.client].as_mut().expect("a line for each client that has messages for one");
            while !line.push(letter.key, &letter.said) {
                match line.pop() {
                    Some(answer) => answers[letter.client].push(answer),
                    // The lane is full of tells.
                    None => std::thread::yield_now(),
                }
            }
        }
        for (line, answers) in lines.iter_mut().zip(answers.iter_mut()) {
            answers.extend(std::iter::from_fn(|| line.as_mut()?.pop()));
        }
    }
    for letter in &round.calls {
        answers[letter.client].push(letter.said.call(&mut clients[letter.client], letter.key));
    }
    for client in clients {
        client.flush(REPLY_TIME_MAX).expect("all lanes become empty");
    }
}

/// Plays a recording; the device's counters must tell the same story as the replies.
fn play(bench: &Bench, recording: &[Round]) -> Outcome<Spot> {
    let builder = bench.builder().shards(SHARDS).lanes(CLIENTS as u32).ring_capacity(RING_SLOTS);
    let engine = builder.build().expect("the engine is built");
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| client(&engine)).collect();
    let mut answers = vec![Vec::new(); CLIENTS];
    for round in recording {
        play_round(&mut clients, round, &mut answers);
        match round.pause {
            Pause::Nothing => {}
            Pause::Relaunch => engine.relaunch().expect("the kernel is launched anew"),
            Pause::Rest => {
                engine.pause().expect("the engine pauses");
                engine.resume().expect("the engine goes on");
            }
        }
    }
    assert_eq!(engine.mode(), Mode::Active);
    let tells: Vec<_> = clients.iter_mut().map(|client| client.counts()).collect();
    let tells: Vec<_> = tells.into_iter().map(|counts| (counts.tells_done, counts.tells_failed)).collect();
    let outcome = Outcome { answers, tells, world: World::of(&engine) };
    let counted = |counter: tourbillon::Counter| counters(&engine)[counter as usize];
    let messages: usize = recording.iter().map(|r| r.tells.len() + r.lines.len() + r.calls.len()).sum();
    assert_eq!(counted(tourbillon::Counter::Processed), messages as u64);
    assert_eq!(counted(tourbillon::Counter::Activated), outcome.world.actors());
    assert_eq!(counted(tourbillon::Counter::Failed), messages as u64 - outcome.world.versions());
    outcome
}

/// Compares what came with what must come. A panic's place is not foretold, but each fault has one of its own.
fn compare(expected: &Outcome<Fault>, found: &Outcome<Spot>) {
    let mut spots: HashMap<Fault, Spot> = HashMap::new();
    for (client, (expected, found)) in expected.answers.iter().zip(&found.answers).enumerate() {
        assert_eq!(expected.len(), found.len(), "replies to client {client}");
        for (number, (expected, found)) in expected.iter().zip(found).enumerate() {
            let is_equal = match (expected, found) {
                (Answer::Value(expected), Answer::Value(found)) => expected == found,
                (Answer::Refused(expected), Answer::Refused(found)) => expected == found,
                (Answer::Panicked(fault), Answer::Panicked(spot)) => spots.entry(*fault).or_insert(*spot) == spot,
                _ => false,
            };
            assert!(is_equal, "reply {number} to client {client} is {found:?}, expected was {expected:?}");
        }
    }
    let mut places: Vec<_> = spots.values().collect();
    places.sort_unstable();
    places.dedup();
    assert_eq!((places.len(), spots.len()), (4, 4), "four ways to panic, four places: {spots:?}");
    assert_eq!(expected.tells, found.tells, "tells that were handled, and that failed");
    assert_eq!(expected.world, found.world, "versions and states");
}

on_every_backend! {
    fn a_recording_ends_in_the_same_replies_and_states(bench: &Bench) {
        let length = Length {
            rounds: bench.scale(24, 8),
            tells: bench.scale(150, 40),
            run: bench.scale(150, 40),
            calls: bench.scale(50, 15),
        };
        for seed in 1..=bench.scale(2, 1) {
            let recording = record(seed, length);
            let found = play(bench, &recording);
            compare(&foretell(&recording), &found);
            assert_eq!(found, play(&Bench::on(Place::native_1()), &recording), "one CPU thread says otherwise");
        }
    }
}
