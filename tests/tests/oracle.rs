//! Random exchanges with accounts against the simplest model of them.

use std::collections::HashMap;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use tourbillon::actors::Account;
use tourbillon::actors::account::{AccountError, Balance, Deposit, Refusal, Withdraw};
use tourbillon::{CallError, Client, Engine};
use tourbillon_tests::bench::{client, mixed};
use tourbillon_tests::on_every_backend;

#[derive(Clone, Copy, Debug)]
enum Operation {
    Deposit(u64),
    Withdraw(u64),
    Balance,
}

/// Amounts around the bounds of an account, and small ones.
fn amount() -> impl Strategy<Value = u64> {
    prop_oneof![4 => 0u64..200, 1 => Just(u64::MAX), 1 => u64::MAX - 50..=u64::MAX]
}

fn operation() -> impl Strategy<Value = (u64, Operation)> {
    let operation = prop_oneof![
        3 => amount().prop_map(Operation::Deposit),
        3 => amount().prop_map(Operation::Withdraw),
        1 => Just(Operation::Balance),
    ];
    (0u64..5, operation)
}

type Answer = Result<u64, CallError<AccountError>>;

fn modelled(balance: &mut u64, operation: Operation) -> Answer {
    let (next, refusal) = match operation {
        Operation::Deposit(amount) => (balance.checked_add(amount), Refusal::TooMuch),
        Operation::Withdraw(amount) => (balance.checked_sub(amount), Refusal::InsufficientFunds),
        Operation::Balance => (Some(*balance), Refusal::TooMuch),
    };
    *balance = next.ok_or(CallError::Handler(AccountError { refusal, balance: *balance }))?;
    Ok(*balance)
}

fn asked(client: &mut Client, key: u64, operation: Operation) -> Answer {
    match operation {
        Operation::Deposit(amount) => client.call(key, Deposit { amount }),
        Operation::Withdraw(amount) => client.call(key, Withdraw { amount }),
        Operation::Balance => client.call(key, Balance {}),
    }
}

/// One case on accounts that no other case uses.
fn compare(
    engine: &Engine,
    client: &mut Client,
    case: u64,
    operations: &[(u64, Operation)],
) -> Result<(), TestCaseError> {
    let mut model: HashMap<u64, u64> = HashMap::new();
    for (number, (account, operation)) in operations.iter().enumerate() {
        let key = mixed(case << 8 | account);
        let expected = modelled(model.entry(key).or_default(), *operation);
        prop_assert_eq!(asked(client, key, *operation), expected, "operation {}: {:?}", number, operation);
        if number % 40 == 39 {
            engine.relaunch().map_err(|error| TestCaseError::fail(error.to_string()))?;
        }
    }
    for (key, balance) in model {
        let found = engine.inspect::<Account>(key).map_err(|error| TestCaseError::fail(error.to_string()))?;
        prop_assert_eq!(found.map(|(_, account)| account.balance), Some(balance));
    }
    Ok(())
}

on_every_backend! {
    fn accounts_behave_like_their_model(bench: &Bench) {
        let engine = bench.engine();
        let mut client = client(&engine);
        let mut case = 0;
        // The same cases every time: a failure here comes again.
        let config = Config { cases: bench.scale(64, 8) as u32, failure_persistence: None, ..Config::default() };
        let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
        let cell = std::cell::RefCell::new((&mut client, &mut case));
        runner
            .run(&vec(operation(), 1..120), |operations| {
                let (client, case) = &mut *cell.borrow_mut();
                **case += 1;
                compare(&engine, client, **case, &operations)
            })
            .unwrap();
    }
}
