//! Topics: what cannot be is refused with a reason, and leaves nothing; subscriptions end, and are streams.

use std::sync::Arc;
use std::time::Duration;

use tourbillon::actors::topic::{
    Brief, Policy, QUEUE_MAX, REFUSING_MAX, Refusal, SUBSCRIBERS_MAX, Show, Subscribe, TOPIC_PAYLOAD_MAX, Urgency,
};
use tourbillon::{
    Addressee, CallError, Engine, EngineError, FailureCode, OutboxError, OutboxPolicy, PublishError, TopicsError,
};
use tourbillon_tests::bench::{client, eventually};
use tourbillon_tests::on_backends;
use tourbillon_tests::topics::{NEXT_TIME_MAX, builder, price, quiet, seen};
use tourbillon_ticker::{Price, Read};

on_backends! {
    [native_1, native_3, simt_4, gpu]
    fn what_cannot_be_is_refused(bench: &Bench) {
        let engine = builder(bench).build().unwrap();
        let (topics, mut client) = (engine.topics(), client(&engine));
        for name in ["", "a//b", "/a", "a/*", "**"] {
            assert!(matches!(topics.topic(name), Err(TopicsError::Name { .. })), "{name}");
            let published = topics.publish(&mut client, name, &price(1));
            assert!(matches!(published, Err(PublishError::Topics(TopicsError::Name { .. }))), "{name}");
        }
        assert!(matches!(topics.subscribe::<Price>("a**", OutboxPolicy::Drop), Err(TopicsError::Name { .. })));
        assert!(matches!(topics.subscribe_actor::<Price>("", 1), Err(TopicsError::Name { .. })));
        assert!(matches!(topics.find("a"), Err(TopicsError::NoSuchTopic { .. })));
        // Nobody listens, and the name takes no number.
        assert!(matches!(topics.publish(&mut client, "a", &price(1)), Err(PublishError::NoSubscribers)));
        assert!(matches!(topics.find("a"), Err(TopicsError::NoSuchTopic { .. })));
        assert!(matches!(topics.unsubscribe_actor::<Price>("a", 1), Err(TopicsError::NotSubscribed { .. })));
        topics.subscribe_actor::<Price>("a", 1).unwrap();
        assert!(matches!(topics.unsubscribe_actor::<Price>("*", 1), Err(TopicsError::NotSubscribed { .. })));
        topics.unsubscribe_actor::<Price>("a", 1).unwrap();
        assert!(matches!(topics.unsubscribe_actor::<Price>("a", 1), Err(TopicsError::NotSubscribed { .. })));
        // The topic is there from now on, and without subscribers.
        topics.topic("a").unwrap();
        assert!(matches!(topics.publish(&mut client, "a", &price(1)), Err(PublishError::NoSubscribers)));
        // An actor may be called by a name.
        let alice = engine.key("alice").unwrap();
        topics.subscribe_actor::<Price>("a", alice).unwrap();
        topics.publish(&mut client, "a", &price(8)).unwrap();
        quiet(&engine);
        assert_eq!(client.call(alice, Read { from: 0 }).unwrap().marks[0], 8);
        topics.unsubscribe_actor::<Price>("a", alice).unwrap();
        // What no library sends.
        let topic = topics.find("a").unwrap().number();
        let brief = Brief::of(&price(1), Urgency::Normal).unwrap();
        topics.subscribe_actor::<Price>("a", 1).unwrap();
        for length in [49, u32::MAX] {
            assert_eq!(client.call(topic, Brief { length, ..brief }), Err(CallError::Handler(Refusal::Malformed)));
        }
        let nobody = Subscribe::of::<Price>(Addressee::default(), Policy::Drop);
        assert_eq!(client.call(topic, nobody), Err(CallError::Handler(Refusal::Malformed)));
        // Subscribers of kinds that do not exist, and of a space that no actor is in, get nothing; others do.
        for kind in [999, u16::MAX] {
            let who = Addressee { key: 1, kind, message: 0, filler: 0 };
            client.call(topic, Subscribe::of::<Price>(who, Policy::Drop)).unwrap();
        }
        topics.publish(&mut client, "a", &price(2)).unwrap();
        // It claims to be another layout's, and is no value of the message.
        client.call(topic, Brief { length: 3, ..brief }).unwrap();
        quiet(&engine);
        assert_eq!(seen(&mut client, 1), [2]);
        let mut reasons: Vec<_> = engine.dead_letters().unwrap().iter().map(|letter| letter.reason()).collect();
        reasons.sort_by_key(|reason| *reason as u32);
        assert_eq!(reasons, [FailureCode::UnknownKind, FailureCode::UnknownKind, FailureCode::InvalidPayload]);
        assert_eq!(client.call(topic, Show {}).unwrap().handed_out, 5);
    }
}

on_backends! {
    [native_1, simt_4, gpu]
    /// A topic that takes no more subscribers refuses one, and no other topic has it then.
    fn refused_subscriptions_leave_nothing(bench: &Bench) {
        let engine = builder(bench).build().unwrap();
        let (topics, mut client) = (engine.topics(), client(&engine));
        let open = topics.topic("a/open").unwrap();
        let full: Vec<_> =
            (0..REFUSING_MAX).map(|_| topics.subscribe::<Price>("a/full", OutboxPolicy::Refuse).unwrap()).collect();
        topics.topic("a/full").unwrap();
        let refused = topics.subscribe::<Price>("a/*", OutboxPolicy::Refuse);
        assert!(
            matches!(&refused, Err(TopicsError::Refused { topic, refusal: Refusal::TooManyRefusing }) if **topic == *"a/full"),
            "{refused:?}"
        );
        assert_eq!(client.call(open.number(), Show {}).unwrap().subscribers, 0);
        assert!(matches!(topics.publish(&mut client, "a/other", &price(1)), Err(PublishError::NoSubscribers)));
        // Four with a filter, and a topic that none of them is in yet: it takes them, and no fifth.
        let mut many = topics.subscribe::<Price>("b/**", OutboxPolicy::Refuse).unwrap();
        topics.publish(&mut client, "b/x", &price(5)).unwrap();
        assert_eq!(many.next_timeout(NEXT_TIME_MAX).unwrap().message.mark, 5);
        many.remove("b/**").unwrap();
        assert!(matches!(topics.publish(&mut client, "b/x", &price(6)), Err(PublishError::NoSubscribers)));
        drop(many);
        // Dropping a reader frees its place.
        drop(full);
        eventually("places are free", || topics.subscribe::<Price>("a/*", OutboxPolicy::Refuse).is_ok());
    }
}

on_backends! {
    [native_3]
    fn a_topic_has_a_bounded_number_of_subscribers(bench: &Bench) {
        let engine = builder(bench).pool_bytes_per_shard(4 << 20).build().unwrap();
        let (topics, mut client) = (engine.topics(), client(&engine));
        for board in 0..u64::from(SUBSCRIBERS_MAX) {
            topics.subscribe_actor::<Price>("t", board).unwrap();
        }
        let topic = topics.topic("t").unwrap();
        topics.topic("u").unwrap();
        let refused = topics.subscribe_actor::<Price>("*", 5000);
        assert!(matches!(refused, Err(TopicsError::Refused { refusal: Refusal::TooManySubscribers, .. })), "{refused:?}");
        assert!(matches!(topics.publish(&mut client, "u", &price(1)), Err(PublishError::NoSubscribers)));
        topics.publish_to(&mut client, topic, &price(3), Urgency::Normal).unwrap();
        quiet(&engine);
        assert_eq!(client.call(topic.number(), Show {}).unwrap().handed_out, u64::from(SUBSCRIBERS_MAX));
    }
}

#[test]
fn systems_without_topics_say_so() {
    let engine = Engine::builder().backend(tourbillon::Backend::Cpu).build().unwrap();
    let (topics, mut client) = (engine.topics(), engine.client().unwrap());
    let error = topics.topic("a").unwrap_err();
    assert!(matches!(error, TopicsError::NoTopics { system: "Shipped" }), "{error}");
    assert!(error.to_string().contains("tourbillon::actors::Topic"));
    assert!(matches!(topics.subscribe::<Price>("a", OutboxPolicy::Drop), Err(TopicsError::NoTopics { .. })));
    let published = topics.publish(&mut client, "a", &price(1));
    assert!(matches!(published, Err(PublishError::Topics(TopicsError::NoTopics { .. }))));
}

#[test]
fn subscriptions_end_with_the_engine() {
    let engine = Engine::builder_for(tourbillon_ticker::image()).backend(tourbillon::Backend::Cpu).build().unwrap();
    let (topics, mut client) = (engine.topics(), engine.client().unwrap());
    let mut reader = topics.subscribe::<Price>("a", OutboxPolicy::Drop).unwrap();
    topics.publish(&mut client, "a", &price(1)).unwrap();
    let timeout = Duration::from_millis(20);
    assert_eq!(reader.next_timeout(NEXT_TIME_MAX).unwrap().message.mark, 1);
    assert_eq!(reader.next_timeout(timeout), Err(OutboxError::Timeout { after: timeout }));
    topics.publish_urgent(&mut client, "a", &price(2)).unwrap();
    drop(engine);
    // What was handed out is still read.
    assert_eq!(reader.next().map(|publication| publication.urgency), Some(Urgency::Urgent));
    assert_eq!(reader.next(), None);
    let error = topics.subscribe::<Price>("b", OutboxPolicy::Drop).unwrap_err();
    assert!(matches!(&error, TopicsError::Engine(cause) if matches!(**cause, EngineError::Stopped { .. })), "{error}");
    assert!(topics.subscribe_actor::<Price>("b", 1).is_ok(), "no topic has to be told yet");
    assert!(matches!(topics.subscribe_actor::<Price>("a", 1), Err(TopicsError::Unanswered { .. })));
    assert!(topics.publish(&mut client, "a", &price(3)).is_err());
}

#[test]
fn subscriptions_are_streams() {
    let engine = Engine::builder_for(tourbillon_ticker::image()).backend(tourbillon::Backend::Cpu).build().unwrap();
    let topics = engine.topics();
    let stream = topics.subscribe::<Price>("a/*", OutboxPolicy::Refuse).unwrap().into_stream().unwrap();
    let engine = Arc::new(engine);
    let publisher = {
        let (topics, engine) = (topics.clone(), Arc::clone(&engine));
        std::thread::spawn(move || {
            let mut client = engine.client().unwrap();
            for mark in 1..=20 {
                topics.publish(&mut client, "a/b", &price(mark)).unwrap();
            }
        })
    };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let marks = runtime.block_on(async {
        let mut stream = std::pin::pin!(stream);
        let mut marks = Vec::new();
        while marks.len() < 20 {
            let next = std::future::poll_fn(|context| futures_core::Stream::poll_next(stream.as_mut(), context)).await;
            marks.push(next.unwrap().message.mark);
        }
        assert_eq!(stream.counts().received, 20);
        marks
    });
    publisher.join().unwrap();
    assert_eq!(marks, (1..=20).collect::<Vec<_>>());
    // Its end took the subscription back.
    let mut client = engine.client().unwrap();
    eventually("the topic knows that it is gone", || {
        matches!(topics.publish(&mut client, "a/b", &price(1)), Err(PublishError::NoSubscribers))
    });
}

#[test]
fn bounds_are_what_the_documents_say() {
    assert_eq!((QUEUE_MAX, REFUSING_MAX, SUBSCRIBERS_MAX, TOPIC_PAYLOAD_MAX), (64, 4, 1024, 224));
}
