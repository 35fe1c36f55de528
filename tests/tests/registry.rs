//! Names under which actors are found, on the way to the actors themselves.

use std::sync::atomic::{AtomicBool, Ordering};

use tourbillon::actors::counter::{Add, Get};
use tourbillon::actors::{Book, Counter, Echo};
use tourbillon::{Key, Registry, RegistryError};
use tourbillon_tests::bench::{add_to, client};
use tourbillon_tests::on_every_backend;

fn found(registry: &Registry, pattern: &str) -> Vec<String> {
    registry.matching(pattern).unwrap().iter().map(|found| found.name.to_string()).collect()
}

on_every_backend! {
    /// Actors are found by name and by pattern, and are who they are whatever they are called.
    fn actors_are_found_by_their_names(bench: &Bench) {
        let engine = bench.engine();
        let registry = engine.registry();
        let mut client = client(&engine);
        let keys: [Key; 3] = [7.into(), engine.key("alice").unwrap(), engine.key(7u128).unwrap()];
        let names = ["bank/eu/teller-1", "bank/us/teller-1", "bank/us/teller-2"];
        for (name, key) in names.into_iter().zip(keys) {
            registry.register::<Counter>(name, key).unwrap();
        }
        registry.register::<Echo>("bank/us/bell", 7).unwrap();
        assert_eq!(client.call(7, Get {}), Ok(0), "a name brings nobody to life");
        for (name, key) in names.into_iter().zip(keys) {
            assert_eq!(registry.key_of::<Counter>(name), Ok(key));
            let amount = key.number() as u32 % 5 + 1;
            client.call(registry.key_of::<Counter>(name).unwrap(), Add { amount, sender: 0, sequence: 1 }).unwrap();
        }
        assert_eq!(found(&registry, "bank/*/teller-1"), [names[0], names[1]]);
        assert_eq!(found(&registry, "bank/us/**"), ["bank/us/bell", names[1], names[2]]);
        let mut sum = 0;
        for one in registry.matching("**").unwrap() {
            if one.is_a::<Counter>() {
                sum += client.call(one.key, Get {}).unwrap();
            }
        }
        assert_eq!(sum, keys.iter().map(|key| key.number() % 5 + 1).sum::<u64>());

        // A name changes hands between two messages; the actor behind it does not change.
        let before = registry.replace::<Counter>("bank/eu/teller-1", 8).unwrap().unwrap();
        assert_eq!(before.key, keys[0]);
        assert_eq!(client.call(registry.key_of::<Counter>("bank/eu/teller-1").unwrap(), Get {}), Ok(0));
        assert_eq!(client.call(before.key, Get {}), Ok(7 % 5 + 1));
        registry.unregister("bank/eu/teller-1").unwrap();
        assert_eq!(found(&registry, "bank/eu/**"), [""; 0]);
        assert!(matches!(registry.key_of::<Counter>("bank/us/bell"), Err(RegistryError::OtherKind { wanted: "Counter", .. })));
        let unknown = engine.registry().register::<Book>("books/1", 1);
        assert!(matches!(unknown, Err(RegistryError::NoSuchKind { name: "Book", .. })), "{unknown:?}");

        // Whoever has a handle may keep it; another engine has names of its own.
        drop(client);
        drop(engine);
        assert_eq!(registry.len(), 3);
        assert!(bench.engine().registry().is_empty());
    }
}

on_every_backend! {
    /// A name that moves from actor to actor while others follow it: every message arrives at one of them.
    fn messages_follow_a_name_that_moves(bench: &Bench) {
        let engine = bench.engine();
        let registry = engine.registry();
        registry.register::<Counter>("leader", 0).unwrap();
        let messages = bench.scale(2_000, 100);
        let sending = AtomicBool::new(true);
        let moves = std::thread::scope(|scope| {
            let mover = scope.spawn(|| {
                let mut moves = 0u64;
                // Relaxed: nothing is read on the strength of it.
                while sending.load(Ordering::Relaxed) {
                    moves += 1;
                    let before = registry.replace::<Counter>("leader", moves % 4).unwrap().unwrap();
                    assert_eq!(before.key.number(), (moves - 1) % 4, "nobody else moves it");
                }
                moves
            });
            let mut client = client(&engine);
            for _ in 0..messages {
                let key = registry.key_of::<Counter>("leader").unwrap();
                add_to(&mut client, key.number(), 1);
            }
            sending.store(false, Ordering::Relaxed);
            mover.join().unwrap()
        });
        let mut client = client(&engine);
        let sum: u64 = (0..4).map(|key| client.call(key, Get {}).unwrap()).sum();
        assert_eq!(sum, messages);
        assert!(moves > 0);
    }
}
