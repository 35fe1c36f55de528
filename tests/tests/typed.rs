//! Values that a message cannot have, from a client that sends them nevertheless: answered with why on every way, and no trace left.
//!
//! The forgers are actors of this program alone: their messages have the kinds, numbers and lengths of those that the engine serves, but
//! any words in them.

use tourbillon::abi::error::FailureCode;
use tourbillon::abi::header::{Flags, Header};
use tourbillon::actors::faulty::{Fault, FaultyError, Trigger};
use tourbillon::actors::herald::{Ending, Provoke, Refused, Standing};
use tourbillon::actors::{Faulty, Herald};
use tourbillon::{
    Actor, CallError, Client, Context, Counter, Engine, Handler, Message, NoError, OutboxPolicy, Plain, ReplyOf, State,
    actor, system,
};
use tourbillon_tests::bench::{client, counted, mixed};
use tourbillon_tests::raw::{exchange, header_of};
use tourbillon_tests::{on_backends, on_every_backend};

#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
enum Side {
    Buy = 1,
    Sell = 2,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
struct Order {
    amount: u32,
    sides: [Side; 2],
    is_urgent: bool,
    filler: u8,
}

/// A state that cannot be all zero.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, State)]
struct Book {
    key: u64,
    orders: u64,
    last: Order,
}

impl Handler<Order> for Book {
    type Reply = u64;

    fn handle(&mut self, message: &Order, _context: &mut Context) -> Result<u64, NoError> {
        self.last = *message;
        self.orders += 1;
        Ok(self.orders)
    }
}

/// As an order, and long enough for the long way.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
struct Orders([Order; 9]);

impl Handler<Orders> for Book {
    type Reply = Orders;

    fn handle(&mut self, message: &Orders, _context: &mut Context) -> Result<Orders, NoError> {
        self.last = message.0[8];
        self.orders += 1;
        Ok(*message)
    }
}

const FIRST: Order = Order { amount: 0, sides: [Side::Buy; 2], is_urgent: false, filler: 0 };

actor!(Book { kind: 700, error: NoError, messages: { 0: Order, 1: Orders }, activate: |key| Book { key, orders: 0, last: FIRST } });
system! {
    /// What the engine of these tests serves.
    struct Shop = [Book, tourbillon::actors::Counter];
}

/// Declares an actor whose messages are words, under the numbers of another.
macro_rules! forger {
    ($forger:ident { kind: $kind:literal, error: $error:ty, $($number:literal: $message:ident($payload:ty) => $reply:ty),+ }) => {
        #[repr(C)]
        #[derive(Clone, Copy, Debug, State)]
        struct $forger {
            nothing: u64,
        }

        $(
            #[repr(C)]
            #[derive(Clone, Copy, Debug, Plain)]
            struct $message($payload);

            impl Handler<$message> for $forger {
                type Reply = $reply;

                fn handle(&mut self, _message: &$message, _context: &mut Context) -> Result<$reply, $error> {
                    unreachable!("no engine of these tests serves it")
                }
            }
        )+

        actor!($forger { kind: $kind, error: $error, messages: { $($number: $message),+ } });
    };
}

forger!(BookForger { kind: 700, error: NoError, 0: AnyOrder([u8; 8]) => u64, 1: AnyOrders([[u8; 8]; 9]) => Orders });
forger!(FaultyForger { kind: 4, error: FaultyError, 0: AnyTrigger([u32; 2]) => u64 });
forger!(HeraldForger { kind: 6, error: Refused, 4: AnyProvoke([u32; 2]) => Standing });

/// Whether the bytes are an order, by hand.
fn is_order([_, _, _, _, first, second, is_urgent, _]: [u8; 8]) -> bool {
    [first, second].iter().all(|side| (1..=2).contains(side)) && is_urgent <= 1
}

/// Bytes of order number `number`: one in four spoiled in one place, by the least or by much.
fn order(number: u64) -> [u8; 8] {
    let random = mixed(number);
    let mut bytes = [random as u8, 2, 3, 4, 1, 2, (random >> 8) as u8 % 2, (random >> 16) as u8];
    if random >> 24 & 3 == 0 {
        let at = 4 + (random >> 32) as usize % 3;
        bytes[at] = if at == 6 { [2, 3, 255] } else { [0, 3, 255] }[(random >> 40) as usize % 3];
        assert!(!is_order(bytes));
    }
    bytes
}

/// What an actor must be after its messages.
#[derive(Clone, Copy, Debug)]
struct Expected {
    orders: u64,
    last: Order,
}

impl Expected {
    const NEW: Self = Self { orders: 0, last: FIRST };

    /// Judges the reply to one order.
    fn judge(&mut self, bytes: [u8; 8], reply: Result<u64, CallError<NoError>>, what: &str) {
        if is_order(bytes) {
            self.orders += 1;
            self.last = Order::from_bytes(&bytes).unwrap();
            assert_eq!(reply, Ok(self.orders), "{what}: {bytes:?}");
        } else {
            assert_eq!(reply, Err(CallError::InvalidPayload), "{what}: {bytes:?}");
        }
    }

    fn check(self, engine: &Engine, key: u64) {
        let Self { orders, last } = self;
        let found = engine.inspect::<Book>(key).unwrap().map(|(header, state)| (header.version, state));
        // An actor that never had a message that it could handle need not be there.
        assert_eq!(
            found.filter(|_| orders > 0),
            (orders > 0).then_some((orders, Book { key, orders, last })),
            "actor {key}"
        );
    }
}

on_backends! {
    [native_1, native_3, simt_4, simt_32, simt_32_hostile]
    /// One at a time, so by the short way of lone messages.
    fn a_lone_value_that_is_none_is_refused(bench: &Bench) {
        let engine = bench.builder_for(Shop::image()).build().unwrap();
        let mut client = client(&engine);
        let mut expected = [Expected::NEW; 3];
        let mut refused = 0;
        for number in 0..bench.scale(3_000, 250) {
            let bytes = order(number);
            refused += u64::from(!is_order(bytes));
            let reply = client.call(number % 3, AnyOrder(bytes));
            expected[number as usize % 3].judge(bytes, reply, "alone");
        }
        for (key, expected) in (0..).zip(expected) {
            expected.check(&engine, key);
        }
        assert!(refused > 40);
        assert_eq!(counted(&engine, Counter::Failed), refused);
    }
}

on_backends! {
    [native_1, native_3, simt_4, simt_32, simt_32_hostile]
    /// Many in flight, so in windows, good and bad next to each other; from two lanes, one of which is honest.
    fn values_that_are_none_are_refused_among_others(bench: &Bench) {
        let engine = bench.builder_for(Shop::image()).ring_capacity(256).build().unwrap();
        let messages = bench.scale(6_000, 400);
        std::thread::scope(|scope| {
            let mut honest = client(&engine);
            scope.spawn(move || {
                let order = Order { amount: 1, ..FIRST };
                let replies = honest.call_many((0..messages).map(|_| (100, order)));
                assert!(replies.into_iter().zip(1..).all(|(reply, orders)| reply == Ok(orders)));
            });
            let mut hostile = client(&engine);
            let mut expected = [Expected::NEW; 5];
            let replies = hostile.call_many((0..messages).map(|number| (number % 5, AnyOrder(order(number)))));
            for (number, reply) in (0..).zip(replies) {
                expected[number as usize % 5].judge(order(number), reply, "in a window");
            }
            for (key, expected) in (0..).zip(expected) {
                expected.check(&engine, key);
            }
        });
    }
}

on_backends! {
    [native_1, native_3, simt_4, simt_32, simt_32_hostile]
    /// One bad place in a message of several slots is enough; and a length that is not the message's is no value either.
    fn long_messages_are_refused_for_one_bad_place(bench: &Bench) {
        let engine = bench.builder_for(Shop::image()).build().unwrap();
        let mut client = client(&engine);
        let good = [1, 2, 3, 4, 1, 2, 1, 5];
        let mut handled = 0;
        for (item, at, byte) in (0..9).flat_map(|item| [(item, 4, 0), (item, 5, 3), (item, 6, 2), (item, 7, 255)]) {
            let mut orders = [good; 9];
            orders[item][at] = byte;
            let reply = client.call(1, AnyOrders(orders));
            if at == 7 {
                handled += 1;
                assert_eq!(reply.map(|reply| reply.0.map(|order| order.amount)), Ok([0x0403_0201; 9]));
            } else {
                assert_eq!(reply, Err(CallError::InvalidPayload), "{byte} at {at} of {item}");
            }
            // The same in a frame with room to spare, and a small one on the long way.
            let wide = Header { flags: Flags::new(3, 0), ..header_of::<Order>(2) };
            let (_, failure, _) = exchange(&mut client, wide, &orders[item]);
            assert_eq!(failure, (at != 7).then_some(FailureCode::InvalidPayload));
        }
        assert_eq!(engine.inspect::<Book>(1).unwrap().unwrap().1.orders, handled);
        assert_eq!(engine.inspect::<Book>(2).unwrap().unwrap().1.orders, handled);
        for length in [0, 7, 9] {
            let header = Header { length, ..header_of::<Order>(2) };
            let (_, failure, _) = exchange(&mut client, header, &[1; 9][..length.into()]);
            assert_eq!(failure, Some(FailureCode::InvalidPayload), "{length} bytes");
        }
    }
}

/// A trigger that handles well, or one whose fault is none.
fn trigger(number: u64) -> [u32; 2] {
    let fault = [Fault::Nothing as u32, 7, 1 << 31, u32::MAX, 0x100, Fault::Nothing as u32];
    [fault[(mixed(number) % 6) as usize], number as u32]
}

fn judge_trigger(number: u64, handled: &mut u64, reply: Result<u64, CallError<FaultyError>>) {
    if trigger(number)[0] == Fault::Nothing as u32 {
        *handled += 1;
        assert_eq!(reply, Ok(*handled), "message {number}");
    } else {
        assert_eq!(reply, Err(CallError::InvalidPayload), "message {number}");
    }
}

/// Tells all of these, and waits for the end.
fn tell<M: Message>(client: &mut Client, key: u64, messages: impl Iterator<Item = M>) {
    for message in messages {
        client.send(key, message).unwrap();
    }
    client.flush(tourbillon_tests::bench::REPLY_TIME_MAX).unwrap();
}

on_every_backend! {
    /// The shipped actors, so on a GPU as well: alone, in windows, and told.
    fn actors_that_are_shipped_refuse_what_is_no_value(bench: &Bench) {
        let engine = bench.builder().ring_capacity(256).build().unwrap();
        let mut client = client(&engine);
        let (lone, many) = (bench.scale(600, 60), bench.scale(4_000, 300));
        let mut handled = 0;
        for number in 0..lone {
            let reply = client.call(9, AnyTrigger(trigger(number)));
            judge_trigger(number, &mut handled, reply);
        }
        let replies = client.call_many((lone..many).map(|number| (9, AnyTrigger(trigger(number)))));
        for (number, reply) in (lone..).zip(replies) {
            judge_trigger(number, &mut handled, reply);
        }
        let good = (0..lone).filter(|number| trigger(*number)[0] == Fault::Nothing as u32).count() as u64;
        tell(&mut client, 9, (0..lone).map(|number| AnyTrigger(trigger(number))));
        assert_eq!((client.counts().tells_done, client.counts().tells_failed), (good, lone - good));
        handled += good;
        let (header, state) = engine.inspect::<Faulty>(9).unwrap().unwrap();
        assert_eq!((header.version, state), (handled, Faulty { handled, scratch: 0, table: [0; 4] }));
        assert_eq!(counted(&engine, Counter::Failed), many + lone - handled);
        assert_eq!(client.call(9, Trigger { fault: Fault::Nothing, argument: 0 }), Ok(handled + 1));
    }
}

on_every_backend! {
    /// A handler that is a function of its own, and that would post.
    fn nothing_is_posted_for_a_value_that_is_none(bench: &Bench) {
        let engine = bench.engine();
        let mut client = client(&engine);
        let outbox = client.outbox(OutboxPolicy::Drop).unwrap();
        let subscriber = outbox.address();
        client.call(3, tourbillon::actors::herald::Subscribe { subscriber }).unwrap();
        for ending in [3, 4, u32::MAX] {
            let refused = client.call(3, AnyProvoke([1, ending]));
            assert_eq!(refused, Err(CallError::InvalidPayload), "{ending}");
        }
        let standing = client.call(3, Provoke { times: 2, ending: Ending::Well }).unwrap();
        assert_eq!(standing.subscribers, 1);
        let (header, _) = engine.inspect::<Herald>(3).unwrap().unwrap();
        assert_eq!(header.version, 2);
        drop(engine);
        assert_eq!(outbox.counts().posted, 2);
    }
}

/// What stands in for the messages has their kinds, numbers and lengths.
#[test]
fn forgeries_look_like_what_they_forge() {
    fn look<M: Message>() -> (u16, u8, usize, usize) {
        (<M::Actor as Actor>::KIND, M::NUMBER, size_of::<M>(), size_of::<ReplyOf<M>>())
    }
    assert_eq!(look::<AnyOrder>(), look::<Order>());
    assert_eq!(look::<AnyOrders>(), look::<Orders>());
    assert_eq!(look::<AnyTrigger>(), look::<Trigger>());
    assert_eq!(look::<AnyProvoke>(), look::<Provoke>());
}
