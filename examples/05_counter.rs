//! Writers that share counters, by additions and by what they read before: `cargo run --example 05_counter`.
//!
//! An addition needs no care: messages to one actor are handled one after the other. What is worked out from what was read is written
//! only if nobody else wrote meanwhile, which the actor's version tells.

use tourbillon::actors::counter::{Add, Get};
use tourbillon::{CallError, Engine, Options};

/// Threads, each with a client of its own.
const WRITERS: u32 = 4;
/// What each of them adds to the first counter, and how often it doubles the second.
const ADDITIONS: u64 = 1_000;
const DOUBLINGS: u32 = 5;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let engine = Engine::builder().build()?;
    let (sums, doubled) = (engine.key("sums")?, engine.key("doubled")?);
    engine.client()?.call(doubled, Add { amount: 1, sender: 0, sequence: 1 })?;
    let start = std::sync::Barrier::new(WRITERS as usize);
    let refused = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS)
            .map(|sender| {
                let (engine, start) = (&engine, &start);
                scope.spawn(move || -> Result<u32, Box<dyn std::error::Error + Send + Sync>> {
                    let mut client = engine.client()?;
                    for sequence in 1..=ADDITIONS {
                        client.call(sums, Add { amount: 1, sender, sequence })?;
                    }
                    start.wait();
                    let (mut done, mut refused) = (0, 0);
                    while done < DOUBLINGS {
                        let read = client.call_with(doubled, Get {}, Options::new())?;
                        let add = Add { amount: u32::try_from(read.value)?, sender, sequence: u64::from(done) + 2 };
                        match client.call_with(doubled, add, Options::new().if_version(read.version)) {
                            Ok(_) => done += 1,
                            Err(CallError::StaleVersion { .. }) => refused += 1,
                            Err(other) => return Err(other.into()),
                        }
                    }
                    Ok(refused)
                })
            })
            .collect();
        writers
            .into_iter()
            .map(|writer| writer.join().map_err(|_| "a writer panicked")?.map_err(|e| e.to_string()))
            .sum()
    });
    let refused: Result<u32, String> = refused;
    let mut client = engine.client()?;
    println!("{} additions make {}", u64::from(WRITERS) * ADDITIONS, client.call(sums, Get {})?);
    println!("{} doublings make {}", WRITERS * DOUBLINGS, client.call(doubled, Get {})?);
    println!("{} updates were refused and made again, on {}", refused?, engine.device_name());
    Ok(())
}
