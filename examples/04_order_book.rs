//! Limit orders meet in a book that grows: `cargo run -p tourbillon-market --example 04_order_book`.

use tourbillon::Engine;
use tourbillon::actors::book::{Cancel, Limit, Look, Side};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // 1 MiB a shard for all books that live there.
    let engine = Engine::builder_for(tourbillon_market::image()).pool_bytes_per_shard(1 << 20).build()?;
    let mut client = engine.client()?;
    let market = 7;
    // Somebody sells at 101 to 105, ten of each.
    for (order, price) in (1..).zip(101..=105) {
        client.call(market, Limit { order, side: Side::Sell, price, quantity: 10 })?;
    }
    // Somebody buys 25 at 103 or better: ten at 101, ten at 102, five at 103.
    let bought = client.call(market, Limit { order: 6, side: Side::Buy, price: 103, quantity: 25 })?;
    println!("bought {} for {} in {} trades", bought.filled, bought.value, bought.trades);
    let left = client.call(market, Cancel { order: 3 })?;
    println!("cancelled {left} that were left at 103");
    println!("{:?}", client.call(market, Look {})?);
    // An order that is not there is refused, and changes nothing.
    println!("{}", client.call(market, Cancel { order: 3 }).map_or_else(|error| error.to_string(), |_| "?".into()));
    let in_use: u64 = engine.pools()?.iter().map(|pool| pool.bytes_in_use()).sum();
    println!("the book takes {in_use} bytes of its shard's pool, on {}", engine.backend());
    engine.stop()?;
    Ok(())
}
