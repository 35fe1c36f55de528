//! Whoever is subscribed gets what is published: `cargo run -p tourbillon-ticker --example 08_topics`.

use tourbillon::actors::topic::Urgency;
use tourbillon::{Engine, OutboxPolicy, PublishError};
use tourbillon_ticker::{Begin, Price, Read};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let engine = Engine::builder_for(tourbillon_ticker::image()).build()?;
    let mut client = engine.client()?;
    let topics = engine.topics();
    // Nobody listens yet, and whoever publishes is told.
    let unheard = topics.publish(&mut client, "prices/eur", &Price { mark: 1, cents: 108 });
    assert!(matches!(unheard, Err(PublishError::NoSubscribers)));
    // An actor gets all prices, and so does this program: those of topics to come included.
    topics.subscribe_actor::<Price>("prices/*", 7)?;
    let mut prices = topics.subscribe::<Price>("prices/**", OutboxPolicy::Drop)?;
    // The host publishes, and so does an actor, without the host.
    topics.publish(&mut client, "prices/eur", &Price { mark: 1, cents: 108 })?;
    let topic = topics.topic("prices/gbp")?;
    client.call(1, Begin { topic, first: 2, count: 3, urgency: Urgency::Urgent })?;
    for publication in prices.by_ref().take(4) {
        let name = topics.name_of(publication.topic);
        println!("{}: {:?}", name.as_deref().unwrap_or("no name"), publication.message);
    }
    engine.quiesce(std::time::Duration::from_secs(5))?;
    println!("actor 7 has seen {} prices", client.call(7, Read { from: 0 })?.count);
    Ok(())
}
