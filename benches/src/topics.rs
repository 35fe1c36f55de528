//! Topics: what a host subscriber that stops reading costs all the others.
//!
//! Actors publish as fast as their topics accept it, and actors count what comes; beside them one client is subscribed to the first
//! topic. It reads, or does not read and loses messages, or does not read and refuses to lose any, by turns. In the last case nothing is
//! accepted on its topic any more, so only the other topics are counted, always.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tourbillon::actors::topic::Urgency;
use tourbillon::{Client, DeviceSelector, Engine, OutboxPolicy, Subscription};
use tourbillon_benches::results::{Figure, Results};
use tourbillon_ticker::{Begin, CountOnly, Price, Progress, Read};

use crate::engine::{EngineResult, REPLY_TIME_MAX, Setup};

/// Topics, each with a publisher and [`BOARDS`] subscribers of its own.
const TOPICS: u64 = 8;
/// Actors that are subscribed to each topic.
const BOARDS: u64 = 3;
/// Runs of each case; the cases take turns, so that what the machine does meanwhile hits all.
const RUNS: usize = 5;
/// Length of a run.
const TIME: Duration = Duration::from_millis(200);
/// How long publishers may take to stop.
const QUIET_TIME_MAX: Duration = Duration::from_secs(20);
/// How long the reader waits for a message before it looks whether it is to end.
const READ_TIME_MAX: Duration = Duration::from_millis(5);

/// What the client does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reader {
    Reads,
    StallsAndDrops,
    StallsAndRefuses,
}

/// The cases and their names in results.
const CASES: [(&str, Reader); 3] = [
    ("topic_messages_per_s", Reader::Reads),
    ("topic_messages_per_s_stalled_drop", Reader::StallsAndDrops),
    ("topic_messages_per_s_stalled_refuse", Reader::StallsAndRefuses),
];

/// Messages a second that the subscribers of the other topics get, in each case. The floor of the stalled ones is the first.
pub fn measure(setup: Setup, results: &mut Results) -> EngineResult<()> {
    measure_for(setup, TIME, RUNS, results)
}

fn measure_for(setup: Setup, time: Duration, runs: usize, results: &mut Results) -> EngineResult<()> {
    let builder = Engine::builder_for(tourbillon_ticker::image());
    let engine = builder.backend(setup.backend).device(DeviceSelector::Index(setup.device)).build()?;
    println!("engine: {}", tourbillon_tools::environment::geometry_text(&engine.geometry()));
    let mut client = engine.client()?;
    client.set_timeout(Some(REPLY_TIME_MAX));
    for topic in 0..TOPICS {
        for board in boards_of(topic) {
            client.call(board, CountOnly {})?;
            engine.topics().subscribe_actor::<Price>(&name_of(topic), board)?;
        }
    }
    let mut rates: [Vec<f64>; CASES.len()] = Default::default();
    for _ in 0..runs {
        for ((_, reader), rates) in CASES.into_iter().zip(&mut rates) {
            rates.push(rate(&engine, &mut client, reader, time)?);
        }
    }
    let reading = Figure::median_of(&rates[0]).value;
    for ((name, reader), rates) in CASES.into_iter().zip(&rates) {
        let floor = (reader != Reader::Reads).then_some(reading);
        results.add(name, Figure::median_of(rates), "1/s", floor);
    }
    Ok(())
}

fn name_of(topic: u64) -> String {
    format!("bench/{topic}")
}

/// The keys of the boards of a topic.
fn boards_of(topic: u64) -> impl Iterator<Item = u64> {
    (0..BOARDS).map(move |board| topic * BOARDS + board)
}

/// Messages a second that came to all boards but those of the first topic.
fn rate(engine: &Engine, client: &mut Client, reader: Reader, time: Duration) -> EngineResult<f64> {
    let policy = if reader == Reader::StallsAndRefuses { OutboxPolicy::Refuse } else { OutboxPolicy::Drop };
    let mut subscription = engine.topics().subscribe::<Price>(&name_of(0), policy)?;
    let is_over = AtomicBool::new(false);
    let rate = std::thread::scope(|scope| {
        if reader == Reader::Reads {
            scope.spawn(|| read_until(&mut subscription, &is_over));
        }
        let rate = publish_for(engine, client, time);
        is_over.store(true, Ordering::Relaxed);
        rate
    })?;
    // A reader that stalls must have stalled, or nothing was shown.
    let counts = subscription.counts();
    let has_stalled = match reader {
        Reader::Reads => true,
        Reader::StallsAndDrops => counts.dropped > 0,
        Reader::StallsAndRefuses => counts.refused > 0,
    };
    if !has_stalled {
        return Err(format!("the outbox of a client that does not read was never full: {counts:?}").into());
    }
    Ok(rate)
}

fn read_until(subscription: &mut Subscription<Price>, is_over: &AtomicBool) {
    while !is_over.load(Ordering::Relaxed) {
        // Nothing came in time, which is no error here.
        let _nothing = subscription.next_timeout(READ_TIME_MAX);
    }
}

/// Lets all publishers publish, and counts.
fn publish_for(engine: &Engine, client: &mut Client, time: Duration) -> EngineResult<f64> {
    let order = |topic: u64, count: u32| -> EngineResult<Begin> {
        let topic = engine.topics().topic(&name_of(topic))?;
        Ok(Begin { topic, first: 0, count, urgency: Urgency::Normal })
    };
    for topic in 0..TOPICS {
        client.call(topic, order(topic, u32::MAX)?)?;
    }
    // Until outboxes that nobody reads are full.
    std::thread::sleep(time);
    let (before, began) = (received(client)?, Instant::now());
    std::thread::sleep(time);
    let (after, took) = (received(client)?, began.elapsed());
    for topic in 0..TOPICS {
        client.call(topic, order(topic, 0)?)?;
    }
    engine.quiesce(QUIET_TIME_MAX)?;
    for topic in 1..TOPICS {
        let feed = client.call(topic, Progress {})?;
        if feed.stopped != 0 {
            return Err(format!("the publisher of topic {topic} has stopped: {feed:?}").into());
        }
    }
    Ok((after - before) as f64 / took.as_secs_f64())
}

/// Prices that came to the boards of all topics but the first.
fn received(client: &mut Client) -> EngineResult<u64> {
    let mut sum = 0;
    for board in (1..TOPICS).flat_map(boards_of) {
        sum += client.call(board, Read { from: 0 })?.prices;
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Map;
    use tourbillon::Backend;

    #[test]
    fn others_go_on_while_a_reader_stalls() {
        let mut results = Results::new(Map::new(), "none");
        let setup = Setup { backend: Backend::Cpu, device: 0 };
        measure_for(setup, Duration::from_millis(60), 1, &mut results).unwrap();
        for (name, _) in CASES {
            assert!(results.get(name).unwrap().value > 0.0, "{name}");
        }
    }
}
