//! An actor tells a client what it did not ask for: `cargo run --example 03_outbox`.

use tourbillon::actors::herald::{Announce, News, Subscribe};
use tourbillon::{Engine, OutboxPolicy};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let engine = Engine::builder().build()?;
    let mut client = engine.client()?;
    let outbox = client.outbox(OutboxPolicy::Drop)?;
    client.call(7, Subscribe { subscriber: outbox.address() })?;
    // A handle of its own, for another thread.
    let reader = std::thread::spawn(move || {
        for received in outbox {
            println!("herald {} says {:?}", received.key(), received.decode::<News>());
        }
    });
    for word in 1..=3 {
        client.call(7, Announce { word })?;
    }
    // The notices end when the engine does.
    engine.stop()?;
    reader.join().map_err(|_| "the reader failed")?;
    Ok(())
}
