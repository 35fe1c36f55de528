//! Starts an engine, calls an actor, prints what ran it: `cargo run --example 01_hello`.

use tourbillon::Engine;
use tourbillon::actors::counter::Add;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let engine = Engine::builder().build()?;
    let mut client = engine.client()?;
    for sequence in 1..=3 {
        let reply = client.call(42, Add { amount: 10, sender: 0, sequence })?;
        println!("counter 42 was {} before message {sequence}", reply.previous);
    }
    println!("backend: {} on {}", engine.backend(), engine.device_name());
    if let Some(reason) = engine.fallback() {
        println!("no GPU: {reason}");
    }
    Ok(())
}
