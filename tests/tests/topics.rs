//! Topics: whoever is subscribed gets each message exactly once, in order and the urgent ones first, whatever its filters and however full
//! mailboxes and outboxes are.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tourbillon::abi::pattern::Pattern;
use tourbillon::actors::topic::{Brief, Policy, Publish, Standing, Subscribe, Unsubscribe, Urgency};
use tourbillon::{
    ActorRef, Addressee, CallError, Client, Counter, Engine, FailureCode, OutboxPolicy, PublishError, Subscription,
    TopicRef, Topics,
};
use tourbillon_tests::bench::{client, counters, eventually, mixed};
use tourbillon_tests::on_every_backend;
use tourbillon_tests::store::ToldStore;
use tourbillon_tests::topics::{NEXT_TIME_MAX, QUIET_TIME_MAX, builder, drained, price, publish, quiet, seen};
use tourbillon_ticker::{Begin, Burst, Forget, Headline, Price, Progress, Watch};

fn standing(topics: &Topics, client: &mut Client, name: &str) -> Standing {
    topics.standing(client, topics.find(name).unwrap()).unwrap()
}

/// A subscriber of the oracle: what its filters are, and the marks it must get from each topic, by urgency, in order.
#[derive(Debug, Default)]
struct Expected {
    filters: BTreeSet<&'static str>,
    marks: BTreeMap<(usize, bool), Vec<u64>>,
}

impl Expected {
    fn hear(&mut self, name: &str, topic: usize, is_urgent: bool, mark: u64) -> bool {
        let fits = self.filters.iter().any(|filter| Pattern::new(filter).unwrap().matches(name));
        if fits {
            self.marks.entry((topic, is_urgent)).or_default().push(mark);
        }
        fits
    }

    /// Compares with marks in the order in which they came.
    fn check(&self, who: &str, came: &[u64]) {
        let mut by_topic: BTreeMap<(usize, bool), Vec<u64>> = BTreeMap::new();
        for mark in came {
            by_topic.entry(topic_of(*mark)).or_default().push(*mark);
        }
        assert_eq!(by_topic, self.marks, "{who}");
    }
}

const NAMES: [&str; 6] = ["a/x", "a/y", "b/x", "b/y/z", "c", "a/x/deep"];
const FILTERS: [&str; 8] = ["a/*", "**", "*/x", "b/**", "c", "a/**", "a/x", "*"];

/// A mark says its topic and its urgency.
fn mark_of(number: u64, topic: usize, is_urgent: bool) -> u64 {
    number << 8 | (topic as u64) << 1 | u64::from(is_urgent)
}

fn topic_of(mark: u64) -> (usize, bool) {
    ((mark >> 1 & 0x7f) as usize, mark & 1 == 1)
}

/// Random subscriptions and messages, against the oracle.
fn traffic(engine: &Engine, seed: u64, rounds: u64, messages: u64, interrupt: bool) {
    let (topics, mut client) = (engine.topics(), client(engine));
    let boards: Vec<u64> = (0..5).map(|board| 100 + board).collect();
    let mut expected: Vec<Expected> = boards.iter().map(|_| Expected::default()).collect();
    let mut readers: Vec<Subscription<Price>> = [OutboxPolicy::Drop, OutboxPolicy::Refuse, OutboxPolicy::Drop]
        .into_iter()
        .map(|policy| topics.subscribe("never/heard", policy).unwrap())
        .collect();
    let mut of_readers: Vec<Expected> = readers.iter().map(|_| Expected::default()).collect();
    let mut random = seed;
    let mut next = |below: u64| {
        random = mixed(random);
        random % below
    };
    let mut number = 0;
    for round in 0..rounds {
        for (index, who) in expected.iter_mut().enumerate() {
            let filter = FILTERS[next(FILTERS.len() as u64) as usize];
            if who.filters.remove(filter) {
                topics.unsubscribe_actor::<Price>(filter, boards[index]).unwrap();
            } else {
                topics.subscribe_actor::<Price>(filter, boards[index]).unwrap();
                who.filters.insert(filter);
            }
        }
        for (reader, who) in readers.iter_mut().zip(&mut of_readers) {
            let filter = FILTERS[next(FILTERS.len() as u64) as usize];
            if who.filters.remove(filter) {
                reader.remove(filter).unwrap();
            } else {
                reader.add(filter).unwrap();
                who.filters.insert(filter);
            }
        }
        for message in 0..messages {
            let (topic, is_urgent) = (next(NAMES.len() as u64) as usize, next(3) == 0);
            number += 1;
            let mark = mark_of(number, topic, is_urgent);
            let mut heard = 0;
            for who in expected.iter_mut().chain(&mut of_readers) {
                heard += usize::from(who.hear(NAMES[topic], topic, is_urgent, mark));
            }
            let published = match is_urgent {
                true => topics.publish_urgent(&mut client, NAMES[topic], &price(mark)),
                false => topics.publish(&mut client, NAMES[topic], &price(mark)),
            };
            match published {
                Ok(receipt) => assert_eq!(receipt.subscribers as usize, heard, "{}", NAMES[topic]),
                Err(PublishError::NoSubscribers) => assert_eq!(heard, 0),
                Err(error) => panic!("{error}"),
            }
            if interrupt && message == messages / 2 {
                match round % 2 {
                    0 => engine.relaunch().unwrap(),
                    _ => {
                        engine.pause().unwrap();
                        engine.resume().unwrap();
                    }
                }
            }
        }
        // Who leaves does not get what it has not got yet.
        quiet(engine);
    }
    for (board, who) in boards.iter().zip(&expected) {
        who.check(&format!("board {board}"), &seen(&mut client, *board));
    }
    for (reader, who) in readers.iter_mut().zip(&of_readers) {
        let count = who.marks.values().map(Vec::len).sum();
        who.check("a reader", &drained(reader, count));
        assert_eq!((reader.counts().dropped, reader.counts().refused, reader.unreadable()), (0, 0, 0));
    }
}

on_every_backend! {
    fn everyone_gets_each_message_once_in_order(bench: &Bench) {
        let engine = builder(bench).outbox_capacity(4096).build().unwrap();
        traffic(&engine, 7, bench.scale(12, 4), bench.scale(40, 12), false);
    }
}

on_every_backend! {
    fn relaunches_and_pauses_lose_and_double_nothing(bench: &Bench) {
        let engine = builder(bench).outbox_capacity(4096).build().unwrap();
        traffic(&engine, 11, bench.scale(8, 4), bench.scale(30, 10), true);
    }
}

on_every_backend! {
    /// Many subscribers, and messages in one go: an urgent one waits for the one that is being handed out, and for no other.
    fn urgent_messages_go_first(bench: &Bench) {
        let engine = builder(bench).build().unwrap();
        let (topics, mut client) = (engine.topics(), client(&engine));
        let boards = 100..100 + bench.scale(150, 120);
        for board in boards.clone() {
            topics.subscribe_actor::<Price>("news", board).unwrap();
        }
        let topic = topics.topic("news").unwrap();
        let (normal, urgent) = (10, 1000);
        let messages = (1..=normal).map(|mark| (mark, Urgency::Normal)).chain([(urgent, Urgency::Urgent)]);
        let all: Vec<_> = messages
            .map(|(mark, urgency)| (topic.number(), Brief::of(&price(mark), urgency).unwrap()))
            .collect();
        for receipt in client.call_many(all) {
            assert!(receipt.unwrap().number > 0);
        }
        quiet(&engine);
        for board in boards {
            let mut marks = seen(&mut client, board);
            let place = marks.iter().position(|mark| *mark == urgent).unwrap();
            assert!(place <= 4, "board {board}: {marks:?}");
            marks.remove(place);
            assert_eq!(marks, (1..=normal).collect::<Vec<_>>(), "board {board}");
        }
    }
}

on_every_backend! {
    /// The smallest mailboxes, and many topics that hand out at the same time: letters by which they go on find no room, and are put
    /// back in line.
    fn full_mailboxes_lose_and_double_nothing(bench: &Bench) {
        let builder = builder(bench).shards(1).mailbox_capacity(32).overflow_capacity(32).pool_bytes_per_shard(4 << 20);
        let engine = builder.build().unwrap();
        let (all_topics, mut client) = (engine.topics(), client(&engine));
        let (names, boards, messages) = (bench.scale(40, 24), bench.scale(30, 13), bench.scale(20, 2));
        let names: Vec<String> = (0..names).map(|topic| format!("t/{topic}")).collect();
        for name in &names {
            all_topics.topic(name).unwrap();
        }
        for board in 0..boards {
            all_topics.subscribe_actor::<Price>("t/*", board).unwrap();
            all_topics.subscribe_actor::<Headline>("t/*", 1000 + board).unwrap();
        }
        let mut calls: Vec<(u64, Publish)> = Vec::new();
        for message in 0..messages {
            for (topic, name) in names.iter().enumerate() {
                let mark = mark_of(message + 1, topic, false);
                let topic = all_topics.find(name).unwrap().number();
                calls.push((topic, Publish::of(&price(mark), Urgency::Normal)));
                let headline = Headline { mark, text: [7; 200] };
                calls.push((topic, Publish::of(&headline, Urgency::Normal)));
            }
        }
        // What is not accepted is published again until it is.
        let answers = client.call_many(calls.clone());
        for ((topic, publish), answer) in calls.into_iter().zip(answers) {
            match answer {
                Ok(receipt) if receipt.number > 0 => {}
                Ok(_) | Err(CallError::MailboxFull { hops: 0 }) => {
                    while !client.call(topic, publish).is_ok_and(|receipt| receipt.number > 0) {}
                }
                Err(error) => panic!("{error}"),
            }
        }
        quiet(&engine);
        let expected: BTreeSet<u64> =
            (0..messages).flat_map(|m| (0..names.len()).map(move |topic| mark_of(m + 1, topic, false))).collect();
        for board in (0..boards).chain((0..boards).map(|board| 1000 + board)) {
            let mut marks = seen(&mut client, board);
            marks.sort_unstable();
            assert_eq!(marks, expected.iter().copied().collect::<Vec<_>>(), "board {board}");
        }
        let counts = counters(&engine);
        assert!(counts[Counter::LettersPutBack as usize] > 0);
        assert_eq!(engine.dead_letters().unwrap().len(), 0);
        // What was borrowed for letters that were put back has come back.
        engine.relaunch().unwrap();
        quiet(&engine);
        engine.pause().unwrap();
        let mailbox = engine.mailboxes().unwrap()[0];
        assert_eq!((mailbox.room, mailbox.answer_room, mailbox.overflow_room), (12, 16, 32));
    }
}

on_every_backend! {
    /// A reader that does not read, and lets messages go: others get all of them.
    fn a_stalled_reader_that_drops_costs_counted_messages(bench: &Bench) {
        let engine = builder(bench).outbox_capacity(32).build().unwrap();
        let (topics, mut client) = (engine.topics(), client(&engine));
        let mut stalled = topics.subscribe::<Price>("a/*", OutboxPolicy::Drop).unwrap();
        topics.subscribe_actor::<Price>("a/*", 1).unwrap();
        let count = bench.scale(200, 60);
        for mark in 1..=count {
            publish(&topics, &mut client, "a/x", &price(mark), Urgency::Normal);
        }
        quiet(&engine);
        assert_eq!(seen(&mut client, 1), (1..=count).collect::<Vec<_>>());
        let mut read = Vec::new();
        while let Some(publication) = stalled.try_next() {
            read.push(publication.message.mark);
        }
        assert!(read.is_sorted() && !read.is_empty() && (read.len() as u64) < count, "{read:?}");
        eventually("the device tells of dropped messages", || stalled.counts().dropped == count - read.len() as u64);
        assert_eq!(standing(&topics, &mut client, "a/x").accepted, count);
        // It reads again, and gets what is published then.
        eventually("room comes back", || {
            publish(&topics, &mut client, "a/x", &price(count + 1), Urgency::Normal);
            stalled.next_timeout(Duration::from_millis(100)).is_ok()
        });
    }
}

on_every_backend! {
    /// A reader that does not read, and refuses to lose messages: publishers are told, nobody gets what is not published, and other
    /// topics go on.
    fn a_stalled_reader_that_refuses_stops_publishers_alone(bench: &Bench) {
        let engine = builder(bench).outbox_capacity(32).build().unwrap();
        let (topics, mut client) = (engine.topics(), client(&engine));
        let mut stalled = topics.subscribe::<Price>("a/x", OutboxPolicy::Refuse).unwrap();
        topics.subscribe_actor::<Price>("a/*", 1).unwrap();
        topics.subscribe_actor::<Price>("a/y", 2).unwrap();
        let count = bench.scale(200, 60);
        let (mut accepted, mut refused) = (Vec::new(), 0);
        for mark in 1..=count {
            match topics.publish(&mut client, "a/x", &price(mark)) {
                Ok(_) => accepted.push(mark),
                Err(PublishError::SubscriberFull) => refused += 1,
                Err(error) => panic!("{error}"),
            }
            publish(&topics, &mut client, "a/y", &price(1000 + mark), Urgency::Normal);
        }
        // Sixteen frames of two slots.
        assert_eq!(accepted, (1..=16).collect::<Vec<_>>());
        assert_eq!(refused, count - 16);
        // An actor that publishes is told as well, and stops.
        let topic = topics.find("a/x").unwrap();
        client.call(7, Begin { topic, first: 5000, count: 3, urgency: Urgency::Normal }).unwrap();
        quiet(&engine);
        let feed = client.call(7, Progress {}).unwrap();
        assert_eq!((feed.stopped, feed.accepted, feed.next), (FailureCode::OutboxFull as u64, 0, 5000));
        // It reads, and publishers go on.
        let mut read = drained(&mut stalled, accepted.len());
        eventually("room comes back", || topics.publish(&mut client, "a/x", &price(9000)).is_ok());
        accepted.push(9000);
        read.extend(drained(&mut stalled, 1));
        quiet(&engine);
        assert_eq!(read, accepted);
        let expected: Vec<u64> = accepted.into_iter().chain((1..=count).map(|mark| 1000 + mark)).collect();
        let mut marks = seen(&mut client, 1);
        marks.sort_unstable();
        assert_eq!(marks, {
            let mut expected = expected;
            expected.sort_unstable();
            expected
        });
        assert_eq!(seen(&mut client, 2).len() as u64, count);
        eventually("refusals are told", || stalled.counts().refused > refused);
    }
}

on_every_backend! {
    /// Actors subscribe themselves and publish without the host, to topics with names and without.
    fn actors_publish_and_subscribe(bench: &Bench) {
        let engine = builder(bench).build().unwrap();
        let (topics, mut client) = (engine.topics(), client(&engine));
        let mut reader = topics.subscribe::<Price>("rates", OutboxPolicy::Drop).unwrap();
        let named = topics.topic("rates").unwrap();
        let own = TopicRef::new(TopicRef::OWN_MIN + 5);
        assert_eq!((topics.name_of(named).as_deref(), topics.name_of(own)), (Some("rates"), None));
        for topic in [named, own] {
            for board in [1, 2, 3] {
                client.call(board, Watch(topic)).unwrap();
            }
        }
        client.call(3, Forget(named)).unwrap();
        quiet(&engine);
        let count = bench.scale(100, 20) as u32;
        client.call(50, Begin { topic: named, first: 1, count, urgency: Urgency::Normal }).unwrap();
        client.call(51, Begin { topic: own, first: 10_000, count, urgency: Urgency::Urgent }).unwrap();
        quiet(&engine);
        client.call(52, Burst { topic: own, first: 20_000, count: 4 }).unwrap();
        quiet(&engine);
        for feed in [50, 51] {
            let feed = client.call(feed, Progress {}).unwrap();
            assert_eq!((feed.accepted, feed.unheard, feed.stopped), (count.into(), 0, 0));
        }
        let (of_named, of_own): (Vec<_>, Vec<_>) =
            ((1..=u64::from(count)).collect(), (10_000..10_000 + u64::from(count)).chain(20_000..20_003).collect());
        for board in [1, 2, 3] {
            let marks = seen(&mut client, board);
            let named: Vec<_> = marks.iter().copied().filter(|mark| *mark < 10_000).collect();
            let mut own: Vec<_> = marks.into_iter().filter(|mark| *mark >= 10_000 && *mark != 20_003).collect();
            own.sort_unstable();
            assert_eq!(named, if board == 3 { Vec::new() } else { of_named.clone() });
            assert_eq!(own, of_own);
        }
        assert_eq!(drained(&mut reader, of_named.len()), of_named);
        // Nobody hears of a topic without subscribers; who asks learns it.
        client.call(53, Begin { topic: TopicRef::new(77_777), first: 1, count: 2, urgency: Urgency::Normal }).unwrap();
        client.call(54, Burst { topic: TopicRef::new(77_777), first: 1, count: 3 }).unwrap();
        quiet(&engine);
        assert_eq!(client.call(53, Progress {}).unwrap().unheard, 2);
        assert_eq!(topics.standing(&mut client, TopicRef::new(77_777)).unwrap().unheard, 5);
    }
}

on_every_backend! {
    /// What has another layout than a subscriber reads is not given to it, and counted.
    fn subscribers_get_what_they_read(bench: &Bench) {
        let engine = builder(bench).build().unwrap();
        let (topics, mut client) = (engine.topics(), client(&engine));
        let mut prices = topics.subscribe::<Price>("mixed", OutboxPolicy::Drop).unwrap();
        let mut headlines = topics.subscribe::<Headline>("mixed", OutboxPolicy::Refuse).unwrap();
        topics.subscribe_actor::<Price>("mixed", 1).unwrap();
        topics.subscribe_actor::<Headline>("mixed", 2).unwrap();
        // One actor, two of its messages: two subscribers.
        topics.subscribe_actor::<Price>("mixed", 3).unwrap();
        topics.subscribe_actor::<Headline>("mixed", 3).unwrap();
        for mark in 1..=6 {
            let headline = Headline { mark: 100 + mark, text: [mark as u8; 200] };
            topics.publish(&mut client, "mixed", &price(mark)).unwrap();
            topics.publish(&mut client, "mixed", &headline).unwrap();
            assert_eq!(headlines.next_timeout(NEXT_TIME_MAX).unwrap().message, headline);
        }
        quiet(&engine);
        assert_eq!(drained(&mut prices, 6), (1..=6).collect::<Vec<_>>());
        assert_eq!(seen(&mut client, 1), (1..=6).collect::<Vec<_>>());
        assert_eq!(seen(&mut client, 2), (101..=106).collect::<Vec<_>>());
        assert_eq!(seen(&mut client, 3).len(), 12);
        let standing = standing(&topics, &mut client, "mixed");
        assert_eq!((standing.accepted, standing.handed_out, standing.unreadable), (12, 36, 36));
        assert_eq!((standing.waiting, standing.subscribers, standing.refused), (0, 6, 0));
    }
}

on_every_backend! {
    /// Subscribers come and go while messages are handed out: who stays gets each message once, who is gone costs nothing.
    fn subscribers_leave_in_the_middle(bench: &Bench) {
        let engine = builder(bench).build().unwrap();
        let (topics, mut client) = (engine.topics(), client(&engine));
        let boards = bench.scale(60, 40);
        for board in 0..boards {
            topics.subscribe_actor::<Price>("t", board).unwrap();
        }
        let lost = topics.subscribe::<Price>("t", OutboxPolicy::Refuse).unwrap();
        let topic = topics.topic("t").unwrap().number();
        let who = |board| Addressee::of::<Price>(ActorRef::new(board));
        // The odd ones leave one after the other, between messages that are still being handed out.
        let mut mark = 0;
        for board in (1..boards).step_by(2) {
            mark += 1;
            client.send(topic, Brief::of(&price(mark), Urgency::Normal).unwrap()).unwrap();
            client.send(topic, Unsubscribe { who: who(board) }).unwrap();
            if board == (boards / 2) | 1 {
                client.flush(QUIET_TIME_MAX).unwrap();
            }
        }
        client.flush(QUIET_TIME_MAX).unwrap();
        drop(lost);
        quiet(&engine);
        publish(&topics, &mut client, "t", &price(mark + 1), Urgency::Normal);
        quiet(&engine);
        for board in 0..boards {
            let marks = seen(&mut client, board);
            if board % 2 == 0 {
                assert_eq!(marks, (1..=mark + 1).collect::<Vec<_>>(), "board {board}");
            } else {
                // At most what was published while it was there.
                let most = board.div_ceil(2);
                assert!(marks.iter().zip(1..).all(|(came, mark)| *came == mark), "board {board}: {marks:?}");
                assert!(marks.len() as u64 <= most, "board {board}: {marks:?}");
            }
        }
        let standing = standing(&topics, &mut client, "t");
        assert_eq!((u64::from(standing.subscribers), standing.waiting), (boards / 2, 0));
    }
}

on_every_backend! {
    /// Who comes while messages wait gets those that are accepted afterwards.
    fn late_comers_get_what_comes_later(bench: &Bench) {
        let engine = builder(bench).build().unwrap();
        let (topics, mut client) = (engine.topics(), client(&engine));
        for board in 0..100 {
            topics.subscribe_actor::<Price>("t", board).unwrap();
        }
        let topic = topics.topic("t").unwrap().number();
        let late = Subscribe::of::<Price>(Addressee::of::<Price>(ActorRef::new(500)), Policy::Drop);
        for mark in 1..=20 {
            client.send(topic, Brief::of(&price(mark), Urgency::Normal).unwrap()).unwrap();
            if mark == 10 {
                client.send(topic, late).unwrap();
            }
        }
        client.flush(QUIET_TIME_MAX).unwrap();
        quiet(&engine);
        assert_eq!(seen(&mut client, 500), (11..=20).collect::<Vec<_>>());
        assert_eq!(seen(&mut client, 99), (1..=20).collect::<Vec<_>>());
    }
}

on_every_backend! {
    /// More messages at once than wait: who publishes learns which were not accepted, and all others arrive.
    fn a_full_queue_is_told(bench: &Bench) {
        let engine = builder(bench).build().unwrap();
        let (topics, mut client) = (engine.topics(), client(&engine));
        for board in 0..120 {
            topics.subscribe_actor::<Price>("t", board).unwrap();
        }
        let topic = topics.topic("t").unwrap().number();
        let count = bench.scale(1000, 200);
        let all: Vec<_> =
            (1..=count).map(|mark| (topic, Brief::of(&price(mark), Urgency::Normal).unwrap())).collect();
        let mut accepted = Vec::new();
        for (mark, receipt) in (1..).zip(client.call_many(all)) {
            if receipt.unwrap().number > 0 {
                accepted.push(mark);
            }
        }
        quiet(&engine);
        let standing = standing(&topics, &mut client, "t");
        assert_eq!(standing.accepted, accepted.len() as u64);
        assert_eq!(standing.refused, count - standing.accepted);
        assert!(standing.refused > 0, "{count} messages waited at once");
        for board in 0..120 {
            assert_eq!(seen(&mut client, board), accepted, "board {board}");
        }
    }
}

on_every_backend! {
    /// Topics and boards for which there is too little room, so that they go to a store and come back while messages are handed out.
    fn topics_come_and_go(bench: &Bench) {
        let store = ToldStore::new();
        let engine = builder(bench).shards(2).actors_per_shard(12).store(Arc::clone(&store)).build().unwrap();
        let (topics, mut client) = (engine.topics(), client(&engine));
        let boards = 30;
        for board in 0..boards {
            topics.subscribe_actor::<Price>("*", board).unwrap();
        }
        let names = ["a", "b", "c"];
        let count = bench.scale(40, 8);
        for mark in 1..=count {
            for name in names {
                publish(&topics, &mut client, name, &price(mark), Urgency::Normal);
            }
            if mark % 4 == 0 {
                engine.evict(boards).unwrap();
            }
        }
        quiet(&engine);
        let expected: Vec<u64> = (1..=count).flat_map(|mark| [mark; 3]).collect();
        for board in 0..boards {
            let mut marks = seen(&mut client, board);
            marks.sort_unstable();
            assert_eq!(marks, expected, "board {board}");
        }
        assert!(counters(&engine)[Counter::Fetched as usize] > 0);
        assert_eq!(engine.dead_letters().unwrap().len(), 0);
    }
}
