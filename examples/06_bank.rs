//! Transfers between accounts, one message to each: `cargo run --release --example 06_bank -- [TRANSFERS]`.
//!
//! The program takes the money from one account and puts it into another. Each message has an id, under which it is handled once: a
//! program that does not know whether a message arrived sends it again.

use tourbillon::actors::account::{AccountError, Balance, Deposit, Withdraw};
use tourbillon::{CallError, Engine, Options};

const ACCOUNTS: u64 = 1_000;
/// What every account begins with.
const FIRST: u64 = 100;

/// A step of a random walk through all numbers (SplitMix64; Steele, Lea, Flood 2014).
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let transfers: u64 = std::env::args().nth(1).map_or(Ok(10_000), |text| text.parse())?;
    let engine = Engine::builder().build()?;
    let mut client = engine.client()?;
    for account in 0..ACCOUNTS {
        client.call(account, Deposit { amount: FIRST })?;
    }
    let (mut state, mut moved, mut refused) = (7, 0, 0);
    for transfer in 0..u128::from(transfers) {
        let from = random(&mut state) % ACCOUNTS;
        let to = random(&mut state) % ACCOUNTS;
        let amount = random(&mut state) % (2 * FIRST);
        match client.call_with(from, Withdraw { amount }, Options::new().message_id(2 * transfer)) {
            Ok(_) => {
                // It cannot be refused but by an account that overflows; then the money goes back.
                match client.call_with(to, Deposit { amount }, Options::new().message_id(2 * transfer + 1)) {
                    Ok(_) => moved += 1,
                    Err(CallError::Handler(_)) => drop(client.call(from, Deposit { amount })?),
                    Err(other) => return Err(other.into()),
                }
            }
            Err(CallError::Handler(AccountError { .. })) => refused += 1,
            Err(other) => return Err(other.into()),
        }
    }
    let mut sum = 0;
    for account in 0..ACCOUNTS {
        sum += client.call(account, Balance {})?;
    }
    println!("accounts={ACCOUNTS} transfers={transfers} moved={moved} refused={refused}");
    println!("sum_expected={} sum_device={sum}", ACCOUNTS * FIRST);
    if sum != ACCOUNTS * FIRST { Err("money was made or lost".into()) } else { Ok(()) }
}
