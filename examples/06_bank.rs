//! Money goes from account to account, without the host: `cargo run --release -p tourbillon-bank --example 06_bank`.
//!
//! The client says to an account whom to pay how much. The account hands the transfer on to the other one, which answers, or hands it
//! back when it would have more than it may. Accounts that are asked for often run dry, or are full: not all transfers are done. At the
//! end all accounts are read, and no money has been made or lost.
//!
//! | option | |
//! | --- | --- |
//! | `--accounts N` | accounts, 2 at least; 100,000 without |
//! | `--transfers N` | transfers; 10,000,000 without, some 15 seconds of two cores where there is no GPU |
//! | `--clients N` | clients, each on a thread of its own; 4 without |
//! | `--skew S` | exponent of the Zipf distribution of both accounts, 0 to 10 (0: all alike); 1 without |
//! | `--seed N` | what the transfers follow from; 1 without |
//! | `--backend B` | `auto`, `cpu` or `cuda`; `auto` without |
//!
//! What is printed on standard output is one line; the program ends with a failure when an answer is missing or the sums differ.

use std::error::Error;
use std::time::{Duration, Instant};

use tourbillon::actors::vault::{Open, Statement};
use tourbillon::{Backend, Client, Engine};
use tourbillon_bank::teller::{Order, Tally, call_each, carry_out};
use tourbillon_tools::load::keys::{Distribution, KeyChooser};
use tourbillon_tools::random::Random;

/// What every account begins with.
const FIRST: u64 = 1_000;
/// The most that an account may have: about as far away as nothing, so that as many transfers fail for either reason.
const MOST: u64 = 2 * FIRST;
/// The most that is transferred at once: small enough that most transfers are done.
const AMOUNT_MAX: u64 = 100;
/// Above this, practically all transfers are between the first two accounts.
const SKEW_MAX: f64 = 10.0;
/// Room in each shard beyond its share of the accounts, in shares: hashing spreads accounts unevenly, the fewer the more.
const ROOM: u64 = 2;
/// Room in each shard on top of that.
const ROOM_LEAST: u64 = 64;
/// How long a client waits for an answer, which a busy CPU may let wait.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(60);

/// Anything that ends the program.
type Failure = Box<dyn Error + Send + Sync>;

/// What was asked for.
#[derive(Clone, Debug)]
struct Options {
    accounts: u64,
    transfers: u64,
    clients: u64,
    skew: f64,
    seed: u64,
    backend: Backend,
}

impl Options {
    fn read(mut arguments: impl Iterator<Item = String>) -> Result<Self, Failure> {
        let mut options =
            Self { accounts: 100_000, transfers: 10_000_000, clients: 4, skew: 1.0, seed: 1, backend: Backend::Auto };
        while let Some(name) = arguments.next() {
            let value = arguments.next().ok_or_else(|| format!("{name} needs a value behind it"))?;
            let number = || value.parse::<u64>().map_err(|error| format!("{name} {value}: {error}"));
            match name.as_str() {
                "--accounts" => options.accounts = number()?,
                "--transfers" => options.transfers = number()?,
                "--clients" => options.clients = number()?,
                "--seed" => options.seed = number()?,
                "--skew" => options.skew = value.parse().map_err(|error| format!("{name} {value}: {error}"))?,
                "--backend" => options.backend = value.parse()?,
                _ => {
                    let known = "--accounts, --transfers, --clients, --skew, --seed and --backend";
                    return Err(format!("there is no option {name}; there are {known}").into());
                }
            }
        }
        if options.accounts < 2 {
            return Err("--accounts must be 2 at least, for money goes from one to another".into());
        }
        if options.clients == 0 {
            return Err("--clients must be 1 at least".into());
        }
        if !(0.0..=SKEW_MAX).contains(&options.skew) {
            return Err(format!("--skew must be from 0 to {SKEW_MAX}").into());
        }
        Ok(options)
    }

    /// The transfers of one client.
    fn orders(&self, client: u64, transfers: u64) -> impl Iterator<Item = Order> + use<> {
        let accounts = self.accounts;
        let distribution = match self.skew {
            0.0 => Distribution::Uniform,
            exponent => Distribution::Zipf { exponent },
        };
        let keys = KeyChooser::new(accounts, distribution);
        let mut random = Random::new(self.seed, client);
        // The accounts that pay most are those that are paid most, so that money goes to and fro.
        (0..transfers).map(move |_| {
            let (from, to) = (keys.next(&mut random), keys.next(&mut random));
            let to = if to == from { (to + 1) % accounts } else { to };
            Order { from, to, amount: 1 + random.below(AMOUNT_MAX) }
        })
    }
}

/// An engine with room for the accounts.
fn engine(options: &Options) -> Result<Engine, Failure> {
    let build = |engine: tourbillon::EngineBuilder| engine.backend(options.backend).build();
    let lanes = u32::try_from(options.clients)?.max(tourbillon::config::LANES_DEFAULT);
    let builder = Engine::builder_for(tourbillon_bank::image()).lanes(lanes);
    let engine = build(builder.clone())?;
    let geometry = engine.geometry();
    let needed = options.accounts.div_ceil(geometry.shards.into()).saturating_mul(ROOM).saturating_add(ROOM_LEAST);
    if needed <= geometry.actors_per_shard.into() {
        return Ok(engine);
    }
    drop(engine);
    Ok(build(builder.actors_per_shard(u32::try_from(needed)?))?)
}

fn client(engine: &Engine) -> Result<Client, Failure> {
    let mut client = engine.client()?;
    client.set_timeout(Some(ANSWER_TIME_MAX));
    Ok(client)
}

fn main() -> Result<(), Failure> {
    let options = Options::read(std::env::args().skip(1))?;
    let engine = engine(&options)?;
    let (accounts, transfers) = (options.accounts, options.transfers);
    call_each(&mut client(&engine)?, 0..accounts, Open { balance: FIRST, most: MOST })?;

    let began = Instant::now();
    let tallies = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..options.clients)
            .map(|number| {
                let share = transfers / options.clients + u64::from(number < transfers % options.clients);
                let (orders, engine) = (options.orders(number, share), &engine);
                scope.spawn(move || -> Result<Tally, Failure> {
                    Ok(carry_out(&mut client(engine)?, orders, |_, _| ())?)
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|cause| std::panic::resume_unwind(cause)))
            .collect::<Result<Vec<_>, _>>()
    })?;
    let took = began.elapsed();
    let tally = tallies.iter().fold(Tally::default(), |sum, tally| sum.and(tally));
    // Nothing is under way any more, or an answer came before its transfer had ended.
    let traffic = engine.quiesce(ANSWER_TIME_MAX)?;

    let statements = call_each(&mut client(&engine)?, 0..accounts, Statement {})?;
    let sum = |figure: fn(&tourbillon_bank::Vault) -> u64| statements.iter().map(figure).sum::<u64>();
    let (sum_expected, sum_device) = (accounts * FIRST, sum(|account| account.balance));
    println!(
        "accounts={accounts} transfers={transfers} answered={} done={} declined={} sum_expected={sum_expected} \
         sum_device={sum_device} resent={}",
        tally.ended(),
        tally.done,
        tally.unpaid + tally.refunded,
        tally.begun_again + tally.resumed,
    );
    eprintln!(
        "{:.2} s on {} ({}): {:.0} transfers a second, {} letters; {} of the declined had too little, {} were refunded; {} of the \
         resent had no room to begin, {} in the middle",
        took.as_secs_f64(),
        engine.backend(),
        engine.device_name(),
        transfers as f64 / took.as_secs_f64(),
        traffic.letters,
        tally.unpaid,
        tally.refunded,
        tally.begun_again,
        tally.resumed,
    );
    let answers = (transfers, tally.done + tally.refunded, tally.done, tally.refunded);
    let accounts =
        (tally.ended(), sum(|account| account.sent), sum(|account| account.received), sum(|account| account.refunded));
    if sum_device != sum_expected {
        return Err("money was made or lost".into());
    }
    if answers != accounts {
        return Err(
            format!("the accounts remember other transfers than were answered: {accounts:?}, {answers:?}").into()
        );
    }
    engine.stop()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Options, String> {
        Options::read(line.split_whitespace().map(str::to_owned)).map_err(|error| error.to_string())
    }

    #[test]
    fn options_are_read() {
        let options = read("--accounts 7 --transfers 8 --clients 2 --skew 0.5 --seed 9 --backend cpu").unwrap();
        assert_eq!((options.accounts, options.transfers, options.clients), (7, 8, 2));
        assert_eq!((options.skew, options.seed, options.backend), (0.5, 9, Backend::Cpu));
        assert_eq!(read("").unwrap().accounts, 100_000);
    }

    #[test]
    fn bad_options_are_told() {
        for (line, said) in [
            ("--accounts", "needs a value"),
            ("--accounts 1", "2 at least"),
            ("--accounts x", "--accounts x: invalid digit"),
            ("--transfers -1", "--transfers -1: invalid digit"),
            ("--clients 0", "1 at least"),
            ("--skew nan", "from 0 to 10"),
            ("--skew 11", "from 0 to 10"),
            ("--backend tpu", "auto, cuda, cpu"),
            ("--speed 9", "there is no option --speed"),
        ] {
            let error = read(line).unwrap_err();
            assert!(error.contains(said), "{line}: {error}");
        }
    }

    #[test]
    fn nobody_pays_himself_and_seeds_matter() {
        for skew in ["0", "1", "10"] {
            let of = |seed: u64| {
                let options = read(&format!("--accounts 3 --skew {skew} --seed {seed}")).unwrap();
                options.orders(0, 1_000).collect::<Vec<_>>()
            };
            let orders = of(1);
            assert!(orders.iter().all(|order| order.from != order.to && order.from < 3 && order.to < 3));
            assert!(orders.iter().all(|order| (1..=AMOUNT_MAX).contains(&order.amount)));
            assert!(orders == of(1) && orders != of(2));
        }
    }
}
