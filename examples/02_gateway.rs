//! A thousand tasks ask actors over a few lanes: `cargo run -p tourbillon --features async --example 02_gateway`.

use tourbillon::Engine;
use tourbillon::actors::counter::{Add, Get};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let engine = Engine::builder().build()?;
    let gateway = engine.gateway()?;
    let tasks: Vec<_> = (0..1000)
        .map(|task| {
            let gateway = gateway.clone();
            tokio::spawn(async move { gateway.ask(task % 10, Add { amount: 1, sender: 0, sequence: task }).await })
        })
        .collect();
    for task in tasks {
        task.await??;
    }
    println!("counter 3: {}", gateway.ask(3, Get {}).await?);
    println!("{} messages over {} lanes of {}", gateway.counts().sent, gateway.lanes(), engine.device_name());
    Ok(())
}
