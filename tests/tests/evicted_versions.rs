//! Actors with collections of a user's own types that come and go: older versions of them, and programs that are wrong.

use std::sync::Arc;

use tourbillon::{
    ActorKey, CallError, Context, Handler, NoError, Plain, PoolMap, PoolSet, PoolVec, State, actor, system,
};
use tourbillon_tests::bench::{client, eventually};
use tourbillon_tests::on_backends;
use tourbillon_tests::store::{Asked, ToldStore, evict, evict_all, pages_in_use as in_use, settled_places};

/// A register, as it was.
#[repr(C)]
#[derive(Clone, Copy, State)]
struct RegisterOf1 {
    names: PoolVec<u64>,
    seen: PoolSet<[u8; 3]>,
    count: u32,
}

/// The same with a field more, in another order, and elements that did not change.
#[repr(C)]
#[derive(Clone, Copy, State)]
#[schema(2)]
struct Register {
    count: u64,
    ages: PoolMap<u64, u32>,
    seen: PoolSet<[u8; 3]>,
    names: PoolVec<u64>,
}

/// The same with elements that did.
#[repr(C)]
#[derive(Clone, Copy, State)]
#[schema(2)]
struct Widened {
    count: u64,
    names: PoolVec<u128>,
    seen: PoolSet<[u8; 3]>,
    filler: u32,
}

#[repr(C)]
#[derive(Clone, Copy, Plain)]
struct Enter(u64);

#[repr(C)]
#[derive(Clone, Copy, Plain)]
struct EnterAnew(u64);

#[repr(C)]
#[derive(Clone, Copy, Plain)]
struct EnterWide(u64);

fn bytes_3(name: u64) -> [u8; 3] {
    let [a, b, c, ..] = name.to_le_bytes();
    [a, b, c]
}

impl Handler<Enter> for RegisterOf1 {
    type Reply = u64;
    fn handle(&mut self, message: &Enter, context: &mut Context) -> Result<u64, NoError> {
        self.names.push(context, message.0)?;
        self.seen.insert(context, bytes_3(message.0))?;
        self.count += 1;
        Ok(self.count.into())
    }
}

impl Handler<EnterAnew> for Register {
    type Reply = u64;
    fn handle(&mut self, message: &EnterAnew, context: &mut Context) -> Result<u64, NoError> {
        let is_new = self.seen.insert(context, bytes_3(message.0))?;
        self.names.push(context, message.0)?;
        self.ages.insert(context, message.0, 1)?;
        self.count += u64::from(is_new);
        let mut sum = 0;
        for name in self.names.iter(context) {
            sum += *name?;
        }
        Ok(sum + (self.count << 32))
    }
}

impl Handler<EnterWide> for Widened {
    type Reply = u64;
    fn handle(&mut self, message: &EnterWide, context: &mut Context) -> Result<u64, NoError> {
        self.names.push(context, message.0.into())?;
        Ok(self.names.len().into())
    }
}

fn upgrade(schema: u32, layout: u64, bytes: &[u8]) -> Option<Register> {
    let old = if (schema, layout) == (1, RegisterOf1::LAYOUT) { RegisterOf1::from_bytes(bytes)? } else { return None };
    assert!(old.names.is_empty() && old.seen.is_empty(), "handles of what was kept lead nowhere");
    let (ages, seen, names) = (PoolMap::new(), PoolSet::new(), PoolVec::new());
    Some(Register { count: old.count.into(), ages, seen, names })
}

fn widen(_: u32, _: u64, bytes: &[u8]) -> Option<Widened> {
    let count = RegisterOf1::from_bytes(bytes)?.count.into();
    Some(Widened { count, names: PoolVec::new(), seen: PoolSet::new(), filler: 0 })
}

actor!(RegisterOf1 { kind: 905, pools: true, error: NoError, messages: { #[outlined] 0: Enter } });
actor!(Register { kind: 905, pools: true, error: NoError, messages: { #[outlined] 0: EnterAnew }, upgrade: upgrade });
actor!(Widened { kind: 905, pools: true, error: NoError, messages: { #[outlined] 0: EnterWide }, upgrade: widen });
system! { struct Old = [RegisterOf1]; }
system! { struct New = [Register]; }
system! { struct Wide = [Widened]; }

// User code of a test is in the host's program alone: there is no kernel of it for a GPU.
on_backends! {
    [native_1, simt_4, simt_32]
    /// An `upgrade` takes over the state, and its collections come to the fields of their names; elements that changed are an error.
    fn collections_of_older_versions_are_taken_over(bench: &Bench) {
        let store = ToldStore::new();
        {
            let engine = bench.builder_for(Old::image()).store(Arc::clone(&store)).build().unwrap();
            let mut client = client(&engine);
            for name in 1..=50 {
                assert_eq!(client.call(3, Enter(name)), Ok(name));
            }
            evict_all(&engine);
        }
        let kept = store.kept.get(905, &ActorKey::Native(3)).unwrap();
        {
            let engine = bench.builder_for(Wide::image()).store(Arc::clone(&store)).build().unwrap();
            let mut client = client(&engine);
            assert_eq!(client.call(3, EnterWide(1)), Err(CallError::FetchFailed));
            assert_eq!(client.call(4, EnterWide(1)), Ok(1));
            assert_eq!(store.kept.get(905, &ActorKey::Native(3)).unwrap(), kept, "what cannot be read is left alone");
        }
        let engine = bench.builder_for(New::image()).store(Arc::clone(&store)).build().unwrap();
        let mut client = client(&engine);
        let sum = (1..=50).sum::<u64>();
        assert_eq!(client.call(3, EnterAnew(50)), Ok(sum + 50 + (50 << 32)));
        assert_eq!(client.call(3, EnterAnew(51)), Ok(sum + 101 + (51 << 32)));
        evict_all(&engine);
        assert_eq!(client.call(3, EnterAnew(52)), Ok(sum + 153 + (52 << 32)));
    }
}

/// An actor that copies the handle of its collection, which it should not.
#[repr(C)]
#[derive(Clone, Copy, State)]
struct Careless {
    words: PoolVec<u64>,
    copy: PoolVec<u64>,
    map: PoolMap<u64, u64>,
    filler: u32,
}

/// Adds a word, and copies the handle when it is 0.
#[repr(C)]
#[derive(Clone, Copy, Plain)]
struct Add(u64);

impl Handler<Add> for Careless {
    type Reply = u32;
    fn handle(&mut self, message: &Add, context: &mut Context) -> Result<u32, NoError> {
        self.words.push(context, message.0)?;
        if message.0 == 0 {
            self.copy = self.words;
        }
        Ok(self.words.len())
    }
}

actor!(Careless { kind: 906, pools: true, error: NoError, messages: { #[outlined] 0: Add } });
system! { struct Sloppy = [Careless]; }

on_backends! {
    [native_1, simt_4, simt_32]
    /// A handle that was copied leads to pages that are gone: such an actor stays, as it is, and nobody else is harmed.
    fn actors_that_cannot_be_read_stay(bench: &Bench) {
        let store = ToldStore::new();
        let image = Sloppy::image();
        let engine = bench.builder_for(image).shards(1).actors_per_shard(2).store(Arc::clone(&store)).build().unwrap();
        let mut client = client(&engine);
        // The copy is good for as long as nothing changes: both go, and come back as two.
        assert_eq!(client.call(1, Add(0)), Ok(1));
        evict(&engine, 1);
        assert_eq!(in_use(&engine), 0);
        assert_eq!(client.call(1, Add(5)), Ok(2));
        assert_eq!(in_use(&engine), 2);
        evict(&engine, 1);
        assert_eq!(client.call(2, Add(0)), Ok(1));
        assert_eq!(client.call(2, Add(1)), Ok(2));
        engine.evict(1).unwrap();
        eventually("it was not kept", || engine.store_counts().keep_failures > 0);
        settled_places(&engine);
        for key in 3..6 {
            assert_eq!(client.call(key, Add(7)), Ok(1));
        }
        assert_eq!(client.call(1, Add(8)), Ok(3));
        assert!(!store.log().contains(&Asked::Evict(ActorKey::Native(2))), "the store was shown half an actor");
        assert_eq!(client.call(2, Add(9)), Ok(3));
    }
}
