//! One actor publishes what many read where it lies: `cargo run -p tourbillon-press --example 07_timetable`.

use tourbillon::actors::gazette::{Issue, Peruse};
use tourbillon::actors::hoard::Ending;
use tourbillon::{CallError, Engine};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let engine = Engine::builder_for(tourbillon_press::image()).build()?;
    let mut client = engine.client()?;
    // Actor 1 publishes an issue of a thousand words. What comes back is a reference of twenty bytes.
    let issue = |seed| Issue { seed, length: 1000, keep: 1, ending: Ending::Well, filler: 0 };
    let monday = client.call(1, issue(1))?;
    // Actors of any shard read it: nobody copies it, and actor 1 is not asked.
    let readers: Vec<_> = (100..110).map(|key| (key, Peruse { issue: monday, ending: Ending::Well })).collect();
    for perused in client.call_many(readers) {
        let perused = perused?;
        println!("issue {} of {} words, {} of them wrong", perused.seed, perused.length, perused.strays);
    }
    // The next issue takes its place, and the reference to the old one is stale from then on.
    let tuesday = client.call(1, issue(2))?;
    assert_eq!(client.call(100, Peruse { issue: monday, ending: Ending::Well }), Err(CallError::BlockStale));
    println!("now issue {}", client.call(100, Peruse { issue: tuesday, ending: Ending::Well })?.seed);
    Ok(())
}
