//! Money goes from account to account on the device: every transfer is answered once, none is made or lost, and each account remembers what
//! the answers say, with mailboxes of any size and over pauses and relaunches.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use tourbillon::actors::vault::{Credit, Declined, Open, Refund, Statement, Transfer};
use tourbillon::{CallError, Counter, Engine};
use tourbillon_bank::Vault;
use tourbillon_bank::teller::{Ending, Order, Tally, call_each, carry_out};
use tourbillon_tests::bench::{client, counters};
use tourbillon_tests::{Bench, on_backends, on_every_backend};
use tourbillon_tools::load::keys::{Distribution, KeyChooser};
use tourbillon_tools::random::Random;

/// How long a test waits for the last letter.
const QUIET_TIME_MAX: Duration = Duration::from_secs(60);
/// What every account begins with.
const FIRST: u64 = 300;
/// The most that is transferred at once.
const AMOUNT_MAX: u64 = 100;
/// What transfers follow from.
const SEED: u64 = 0xba2c;

/// What goes on in a bank.
#[derive(Clone, Copy)]
struct Day {
    accounts: u64,
    /// The most that an account may have.
    most: u64,
    clients: u64,
    /// Of each client.
    transfers: u64,
    /// Slots of each mailbox and of each overflow, unless as many as an engine has by itself.
    capacity: Option<u32>,
    /// Shards, unless as many as an engine has by itself.
    shards: Option<u32>,
    /// Pauses and relaunches meanwhile.
    interruptions: u32,
}

/// What the answers say of an account.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Page {
    paid: u64,
    got: u64,
    sent: u64,
    received: u64,
    refunded: u64,
}

impl Page {
    fn and(self, other: Self) -> Self {
        Self {
            paid: self.paid + other.paid,
            got: self.got + other.got,
            sent: self.sent + other.sent,
            received: self.received + other.received,
            refunded: self.refunded + other.refunded,
        }
    }
}

impl Day {
    fn orders(self, client: u64) -> impl Iterator<Item = Order> {
        let keys = KeyChooser::new(self.accounts, Distribution::Zipf { exponent: 1.0 });
        let mut random = Random::new(SEED, client);
        (0..self.transfers).map(move |_| {
            let (from, to) = (keys.next(&mut random), keys.next(&mut random));
            let to = if to == from { (to + 1) % self.accounts } else { to };
            Order { from, to, amount: 1 + random.below(AMOUNT_MAX) }
        })
    }

    /// What one client did, and what its answers say of each account.
    fn transfer(self, engine: &Engine, number: u64) -> (Tally, Vec<Page>) {
        let mut book = vec![Page::default(); self.accounts as usize];
        let mut endings = 0;
        let tally = carry_out(&mut client(engine), self.orders(number), |order, ending| {
            endings += 1;
            let from = &mut book[order.from as usize];
            from.sent += u64::from(ending != Ending::Unpaid);
            from.refunded += u64::from(ending == Ending::Refunded);
            if ending == Ending::Done {
                from.paid += order.amount;
                let to = &mut book[order.to as usize];
                to.received += 1;
                to.got += order.amount;
            }
        });
        let tally = tally.unwrap_or_else(|error| panic!("client {number}: {error}"));
        assert_eq!((endings, tally.ended()), (self.transfers, self.transfers), "client {number}: {tally:?}");
        (tally, book)
    }

    /// Runs it on a new engine, and compares every account with the answers.
    fn run(self, bench: &Bench) -> Tally {
        let builder = bench.builder_for(tourbillon_bank::image()).actors_per_shard(self.accounts as u32 + 8);
        let builder = match self.capacity {
            Some(slots) => builder.mailbox_capacity(slots).overflow_capacity(slots),
            None => builder,
        };
        let builder = match self.shards {
            Some(shards) => builder.shards(shards),
            None => builder,
        };
        let engine = &builder.build().unwrap();
        call_each(&mut client(engine), 0..self.accounts, Open { balance: FIRST, most: self.most }).unwrap();
        let is_over = AtomicBool::new(false);
        let done = thread::scope(|scope| {
            let clients: Vec<_> =
                (0..self.clients).map(|number| scope.spawn(move || self.transfer(engine, number))).collect();
            let watcher = scope.spawn(|| {
                let ended: Vec<_> = clients.into_iter().map(thread::ScopedJoinHandle::join).collect();
                // Relaxed: nothing is read on the strength of it.
                is_over.store(true, Ordering::Relaxed);
                ended
            });
            let mut left = self.interruptions;
            while left != 0 && !is_over.load(Ordering::Relaxed) {
                engine.pause().unwrap();
                engine.resume().unwrap();
                engine.relaunch().unwrap();
                thread::sleep(Duration::from_millis(1));
                left -= 1;
            }
            assert!(left < self.interruptions || self.interruptions == 0, "all was over before the first pause");
            watcher.join().expect("the watcher only waits")
        });
        let mut tally = Tally::default();
        let mut book = vec![Page::default(); self.accounts as usize];
        for ended in done {
            let (of_client, pages) = ended.unwrap_or_else(|cause| std::panic::resume_unwind(cause));
            tally = tally.and(&of_client);
            book.iter_mut().zip(pages).for_each(|(sum, page)| *sum = sum.and(page));
        }
        engine.quiesce(QUIET_TIME_MAX).unwrap();
        let statements = call_each(&mut client(engine), 0..self.accounts, Statement {}).unwrap();
        assert_eq!(statements.iter().map(|account| account.balance).sum::<u64>(), self.accounts * FIRST, "{tally:?}");
        for (account, (found, page)) in statements.into_iter().zip(book).enumerate() {
            let Page { sent, received, refunded, paid, got } = page;
            let expected = Vault { balance: FIRST + got - paid, sent, received, refunded, most: self.most };
            assert_eq!(found, expected, "account {account}");
        }
        self.check_counters(engine, &tally);
        tally
    }

    /// Nothing else was handled than the answers say.
    fn check_counters(self, engine: &Engine, tally: &Tally) {
        let counters = counters(engine);
        let count = |counter: Counter| counters[counter as usize];
        let asked = 2 * self.accounts + self.clients * self.transfers + tally.begun_again + tally.resumed;
        assert_eq!(count(Counter::Claimed), asked);
        // From the paying account to the other, and where the money came back two more. A step that found no room sent none.
        assert_eq!(count(Counter::Letters), tally.done + 3 * tally.refunded);
        assert_eq!(count(Counter::Processed), asked + count(Counter::Letters));
        assert_eq!(count(Counter::DeadLetters), 0);
    }
}

on_every_backend! {
    fn transfers_are_answered_once_and_sums_stay(bench: &Bench) {
        let day = Day {
            accounts: 500,
            most: 2 * FIRST,
            clients: 3,
            transfers: bench.scale(200_000, 2_000),
            capacity: None,
            shards: None,
            interruptions: 0,
        };
        let tally = day.run(bench);
        assert!(tally.done > 0 && tally.unpaid > 0 && tally.refunded > 0, "{tally:?}");
    }
}

on_every_backend! {
    fn nothing_is_lost_by_pauses_and_relaunches(bench: &Bench) {
        let day = Day {
            accounts: 100,
            most: 2 * FIRST,
            clients: 3,
            transfers: bench.scale(200_000, 2_000),
            capacity: None,
            shards: None,
            interruptions: 20,
        };
        day.run(bench);
    }
}

/// Mailboxes and overflows as small as they can be, and accounts that are soon full.
const NARROW: Day = Day {
    accounts: 60,
    most: FIRST + AMOUNT_MAX,
    clients: 3,
    transfers: 0,
    capacity: Some(32),
    shards: None,
    interruptions: 3,
};

on_every_backend! {
    fn small_mailboxes_lose_no_money(bench: &Bench) {
        let tally = Day { transfers: bench.scale(100_000, 2_000), ..NARROW }.run(bench);
        assert!(tally.done > 0 && tally.unpaid > 0 && tally.refunded > 0, "{tally:?}");
    }
}

on_backends! {
    [native_3, simt_4, simt_32, simt_32_hostile, gpu]
    /// Steps of all sorts find no room. A machine whose warps are wide is in its own way in one shard, others need several; a single lane
    /// never is.
    fn transfers_go_on_where_there_was_no_room(bench: &Bench) {
        let shards = (!bench.is_narrow()).then_some(1);
        let tally = Day { transfers: bench.scale(100_000, 2_000), shards, ..NARROW }.run(bench);
        assert!(tally.done > 0 && tally.unpaid > 0 && tally.refunded > 0, "{tally:?}");
        assert!(tally.begun_again > 0 && tally.resumed > 0, "{tally:?}");
    }
}

on_every_backend! {
    /// The steps one by one, also to accounts that nobody has opened.
    fn a_transfer_is_done_or_leaves_all_as_it_was(bench: &Bench) {
        let engine = bench.builder_for(tourbillon_bank::image()).actors_per_shard(64).build().unwrap();
        let mut client = client(&engine);
        for (account, balance) in [(1, 50), (2, 95)] {
            client.call(account, Open { balance, most: 100 }).unwrap();
        }
        let declined = |by| Err(CallError::Handler(Declined { by }));
        assert_eq!(client.call(1, Transfer { to: 2, amount: 5 }).map(|done| done.balance), Ok(100));
        assert_eq!(client.call(1, Transfer { to: 2, amount: 46 }), declined(1));
        assert_eq!(client.call(1, Transfer { to: 2, amount: 1 }), declined(2));
        assert_eq!(client.call(1, Transfer { to: 3, amount: 45 }), declined(3));
        assert_eq!(client.call(1, Transfer { to: 1, amount: 45 }).map(|done| done.balance), Ok(45));
        // A later step by itself, as a teller sends it.
        assert_eq!(client.call(2, Credit { from: 1, amount: 1 }), declined(2));
        assert_eq!(client.call(1, Refund { to: 2, amount: 2 }), declined(2));
        engine.quiesce(QUIET_TIME_MAX).unwrap();
        let statement = |balance, sent, received, refunded, most| Vault { balance, sent, received, refunded, most };
        assert_eq!(client.call(1, Statement {}), Ok(statement(48, 4, 1, 4, 100)));
        assert_eq!(client.call(2, Statement {}), Ok(statement(100, 0, 1, 0, 100)));
        assert_eq!(client.call(3, Statement {}), Ok(statement(0, 0, 0, 0, 0)));
    }
}
