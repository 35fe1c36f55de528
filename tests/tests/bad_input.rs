//! What is refused, with which error.
//!
//! | input | where it is tested |
//! | --- | --- |
//! | ring capacity zero or no power of two | here, and `config::tests::bad_ring_capacities_are_refused` |
//! | shards zero or too many, other figures of the geometry | here, and `config::tests::bad_figures_are_named_...` |
//! | message or reply too large, when compiled | documentation tests of this crate |
//! | payload or reply too large, raw frames | here |
//! | payload or reply too large for the arena, arena exhausted, references that lead anywhere | `arena.rs` |
//! | more messages than a batch may have, or fewer than it says | here |
//! | unknown kind, message that the actor lacks, invalid value | here |
//! | engine stopped, drained, dropped | `lifecycle.rs`, `lanes.rs` |
//! | lane of another ABI, version, layout | `lane::tests::foreign_lanes_are_refused` and its neighbours |
//! | staging queue of zero or too many, gateway of senseless bounds | `backpressure.rs` |
//! | timeout in flight, future dropped in every state, gateway used after shutdown, too many that wait | `gateway.rs` |
//! | deadline in the past, id reused in and outside the window, window or queue of senseless bounds, version of no actor | `options.rs` |
//! | queue of dead letters full | `dead_letters.rs` |
//! | urgent messages without a lane for them | `priorities.rs` |
//! | key too long, too many names, unknown key space, orders of clients | `keys.rs` |
//! | values that a message cannot have | `typed.rs`; states of other versions: `device/tests/adopt.rs`, `virtual_actors.rs` |
//! | pool exhausted, senseless bounds of a pool, a pool beside a store | `pools.rs`, `config::tests::pools_...`, `config::tests::collections_...` |
//! | too many that wait for an actor, stores that fail | `virtual_actors.rs` |
//! | hostile slots | here; random bytes in the codec: `shared/src/frame.rs` |
//! | no driver, `cuda` without a GPU | here, `engine::tests::without_a_gpu_...` |
//! | driver too old, GPU too old: the message | `error::tests::errors_name_cause_and_cure` |
//! | GPU too old, stale PTX, no PTX: the choice | `cuda::module::tests::the_newest_text_that_fits_is_chosen` |
//! | stale PTX and no PTX with a driver, no such device | here, on a GPU |
//! | too little memory | here, and `config::tests::more_than_the_memory_is_refused_with_both_figures` |
//! | a device that another engine uses | here, on a GPU |
//! | a device that a stuck kernel still uses | `stuck.rs` |

use tourbillon::abi::error::FailureCode;
use tourbillon::abi::geometry::ACTORS_PER_SHARD_MAX;
use tourbillon::abi::header::{Flags, Header};
use tourbillon::abi::partition::SHARDS_MAX;
use tourbillon::abi::position::ShapeError;
use tourbillon::abi::virtual_actors::{KIND_MAX, WAITERS_MAX};
use tourbillon::actors::Counter as CounterActor;
use tourbillon::actors::counter::{Add, CounterError, Get};
use tourbillon::actors::echo::{Ping64, Ping352};
use tourbillon::actors::faulty::{Fault, Trigger};
use tourbillon::{
    Backend, BackendKind, CallError, Context, Counter, DeviceSelector, Engine, EngineError, Handler, NoError, Plain,
    PtxText, State, actor, system,
};
use tourbillon_tests::bench::{
    client, counted, counters, eventually, gpu_turn, is_for_want_of_a_gpu, is_skipped, mixed,
};
use tourbillon_tests::raw::{exchange, header_of};
use tourbillon_tests::{Place, on_backends, on_every_backend};

/// Answers much to a short question.
#[repr(C)]
#[derive(Clone, Copy, Debug, State)]
struct Talker {
    asked: u64,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Plain)]
struct Ask {
    word: u32,
}

impl Handler<Ask> for Talker {
    type Reply = [u32; 40];

    fn handle(&mut self, message: &Ask, _context: &mut Context) -> Result<[u32; 40], NoError> {
        self.asked += 1;
        Ok([message.word; 40])
    }
}

actor!(Talker { kind: 500, error: NoError, messages: { 0: Ask } });

system! {
    /// Actors of two crates.
    struct Mixed = [Talker, tourbillon::actors::Counter];
}

fn figure_of(built: Result<Engine, EngineError>) -> &'static str {
    match built {
        Err(EngineError::Geometry(error)) => error.figure,
        other => panic!("{other:?}"),
    }
}

on_every_backend! {
    fn figures_out_of_bounds_are_named(bench: &Bench) {
        for capacity in [0, 3, 1000] {
            let built = bench.builder().ring_capacity(capacity).build();
            let expected = ShapeError::NotPowerOfTwo { capacity };
            assert!(matches!(built, Err(EngineError::RingCapacity(error)) if error == expected), "{capacity}");
        }
        for capacity in [1, 8, 1 << 17, 1 << 31] {
            let built = bench.builder().ring_capacity(capacity).build();
            let expected = ShapeError::OutOfRange { capacity };
            assert!(matches!(built, Err(EngineError::RingCapacity(error)) if error == expected), "{capacity}");
        }
        for shards in [0, SHARDS_MAX + 1, u32::MAX] {
            assert_eq!(figure_of(bench.builder().shards(shards).build()), "shards");
        }
        for actors in [0, ACTORS_PER_SHARD_MAX + 1] {
            assert_eq!(figure_of(bench.builder().actors_per_shard(actors).build()), "actors_per_shard");
        }
        for lanes in [0, 65, u32::MAX] {
            assert_eq!(figure_of(bench.builder().lanes(lanes).build()), "lanes");
        }
        // One of 64 lanes is the store's.
        let with_store = bench.builder().lanes(64).store(tourbillon_tests::store::ToldStore::new());
        assert_eq!(figure_of(with_store.build()), "lanes");
        for waiters in [0, WAITERS_MAX + 1] {
            assert_eq!(figure_of(bench.builder().waiters(waiters).build()), "waiters");
        }
    }
}

on_every_backend! {
    fn more_memory_than_there_is_is_refused_with_both_figures(bench: &Bench) {
        let built = bench.builder().shards(SHARDS_MAX.min(256)).actors_per_shard(ACTORS_PER_SHARD_MAX).build();
        let Err(EngineError::TooLittleMemory { needed, free }) = built else { panic!("{built:?}") };
        assert!(needed > free && free > 0);
    }
}

on_every_backend! {
    fn requests_that_name_nothing_are_answered_with_why(bench: &Bench) {
        let engine = bench.engine();
        let mut client = client(&engine);
        let get = header_of::<Get>(1);
        let trigger = Trigger { fault: Fault::Nothing, argument: 0 };
        let unknown_fault = [99u32, 0];
        let cases: [(Header, &[u8], FailureCode); 8] = [
            (Header { kind: 77, ..get }, &[], FailureCode::UnknownKind),
            (Header { kind: KIND_MAX, ..get }, &[], FailureCode::UnknownKind),
            (Header { kind: u16::MAX, ..get }, &[], FailureCode::UnknownKeySpace),
            (Header { message: 2, ..get }, &[], FailureCode::UnknownMessage),
            (Header { message: 255, ..get }, &[], FailureCode::UnknownMessage),
            (Header { length: 4, ..get }, &[0; 4], FailureCode::InvalidPayload),
            (Header { length: 3, ..header_of::<Trigger>(2) }, &trigger.as_bytes()[..3], FailureCode::InvalidPayload),
            (header_of::<Trigger>(2), bytemuck::bytes_of(&unknown_fault), FailureCode::InvalidPayload),
        ];
        for (header, payload, expected) in cases {
            let (_, failure, _) = exchange(&mut client, header, payload);
            assert_eq!(failure, Some(expected), "{header:?}");
        }
        assert_eq!(counted(&engine, Counter::Failed), 8);
        assert_eq!(client.call(1, Get {}), Ok(0), "the lane goes on");
        assert_eq!(client.call(2, trigger), Ok(1));
        let refused = client.call(1, Add { amount: 1, sender: 14, sequence: 1 });
        assert_eq!(refused.unwrap_err(), CallError::Handler(CounterError::SenderOutOfRange));
        let refused = client.call(1, Add { amount: 1, sender: 0, sequence: 1 << 32 });
        assert_eq!(refused.unwrap_err(), CallError::Handler(CounterError::SequenceTooLarge));
        assert_eq!(engine.inspect::<CounterActor>(1).unwrap().unwrap().1.value, 0);
    }
}

on_every_backend! {
    fn frames_that_contradict_themselves_are_answered_as_such(bench: &Bench) {
        let engine = bench.engine();
        let mut client = client(&engine);
        let get = header_of::<Get>(1);
        let one = |bits: u16| Header { flags: Flags::new(1, bits), ..get };
        let cases = [
            // More than the span has room for.
            Header { length: 17, ..get },
            Header { length: u16::MAX, ..get },
            Header { flags: Flags::new(8, 0), length: 353, ..get },
            Header { kind: 0, ..get },
            // Flags that a client may not set.
            one(Flags::REPLY),
            one(Flags::FAILED),
            one(Flags::MALFORMED),
            one(Flags::DRIFTED),
            // Extensions that the span has no room for.
            one(Flags::CAUSAL),
            Header { length: 1, ..one(Flags::ARENA) },
        ];
        for header in cases {
            let (reply, failure, _) = exchange(&mut client, header, &[]);
            assert_eq!(failure, Some(FailureCode::MalformedFrame), "{header:?}");
            assert_eq!(reply.flags.span(), header.flags.span(), "every slot is answered");
        }
        assert_eq!(counted(&engine, Counter::Malformed), cases.len() as u64);
        assert_eq!(client.call(1, Get {}), Ok(0));
    }
}

on_every_backend! {
    fn what_is_past_the_limit_of_a_batch_is_not_sent(bench: &Bench) {
        let engine = bench.builder().batch_limit(3).build().unwrap();
        let mut client = client(&engine);
        let adds = (1..=5).map(|sequence| (7, Add { amount: 1, sender: 0, sequence }));
        let replies = client.call_many(adds);
        assert_eq!(replies.iter().filter(|reply| reply.is_ok()).count(), 3);
        assert_eq!(replies[3..], [Err(CallError::BatchTooLarge { limit: 3 }), Err(CallError::BatchTooLarge { limit: 3 })]);
        assert_eq!(client.call(7, Get {}), Ok(3), "what was sent was executed, and nothing else");
    }
}

/// Says that there are more than any memory holds.
struct Boastful<I>(I);

impl<I: Iterator> Iterator for Boastful<I> {
    type Item = I::Item;

    fn next(&mut self) -> Option<I::Item> {
        self.0.next()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (usize::MAX, None)
    }
}

on_every_backend! {
    fn a_batch_may_be_shorter_than_it_says(bench: &Bench) {
        for builder in [bench.builder(), bench.builder().batch_limit(u32::MAX)] {
            let engine = builder.build().unwrap();
            let adds = (1..=3).map(|sequence| (7, Add { amount: 1, sender: 0, sequence }));
            let replies = client(&engine).call_many(Boastful(adds));
            assert!(replies.len() == 3 && replies.iter().all(Result::is_ok), "{replies:?}");
        }
    }
}

on_every_backend! {
    fn what_is_larger_than_a_frame_never_leaves_the_client(bench: &Bench) {
        let engine = bench.engine();
        let mut client = client(&engine);
        let refused = client.call_raw(header_of::<Ping352>(1), &[0; 353]);
        assert_eq!(refused.unwrap_err(), CallError::PayloadTooLarge { bytes: 353, most: 352 });
        let largest = Ping352 { words: std::array::from_fn(|i| i as u32) };
        assert_eq!(client.call(1, largest), Ok(largest));
        assert_eq!(counted(&engine, Counter::Claimed), 1);
    }
}

on_backends! {
    [native_1, native_3, simt_4, simt_32, simt_32_hostile]
    fn replies_larger_than_the_request_reserved_are_refused_and_leave_no_trace(bench: &Bench) {
        let engine = bench.builder_for(Mixed::image()).build().unwrap();
        let mut client = client(&engine);
        assert_eq!(client.call(5, Ask { word: 3 }), Ok([3; 40]));
        for span in 1..4 {
            let header = Header { flags: Flags::new(span, 0), ..header_of::<Ask>(5) };
            let (_, failure, _) = exchange(&mut client, header, &7u32.to_le_bytes());
            assert_eq!(failure, Some(FailureCode::ReplyTooLarge), "{span} slots");
        }
        assert_eq!(client.call(5, Ask { word: 4 }), Ok([4; 40]));
        assert_eq!(engine.inspect::<Talker>(5).unwrap().unwrap().1.asked, 2);
        assert_eq!(client.call(5, Get {}), Ok(0), "the same key, another kind");
        let echo = client.call(1, Ping64 { words: [0; 16] });
        assert_eq!(echo, Err(CallError::UnknownKind), "an actor that the system does not list");
        let missing = engine.inspect::<tourbillon::actors::Account>(1);
        assert!(matches!(missing, Err(EngineError::NoSuchKind { kind: 3, .. })));
    }
}

on_every_backend! {
    fn a_shard_that_is_full_refuses_new_actors_and_serves_the_others(bench: &Bench) {
        let engine = bench.builder().shards(1).actors_per_shard(4).build().unwrap();
        let mut client = client(&engine);
        for round in 1..=bench.scale(50, 10) {
            for key in 0..4 {
                let added = client.call(mixed(key), Add { amount: 1, sender: 0, sequence: round }).unwrap();
                assert_eq!(added.previous, round - 1);
            }
            for key in 4..7 {
                let refused = client.call(mixed(key), Add { amount: 1, sender: 0, sequence: round });
                assert_eq!(refused.unwrap_err(), CallError::DirectoryFull);
            }
        }
        assert_eq!(counted(&engine, Counter::Activated), 4);
        assert!(engine.inspect::<CounterActor>(mixed(4)).unwrap().is_none());
    }
}

on_every_backend! {
    /// Garbage in one lane: whatever becomes of that lane, the engine serves the others, and every frame that is taken is answered.
    fn hostile_slots_hurt_nobody_else(bench: &Bench) {
        let engine = bench.builder().ring_capacity(64).build().unwrap();
        let mut honest = client(&engine);
        let rounds = bench.scale(40, 8);
        let mut sequence = 0;
        for round in 0..rounds {
            let mut hostile = client(&engine);
            let slots: Vec<[u32; 12]> = (0..64)
                .map(|slot| std::array::from_fn(|word| mixed(round << 16 | slot << 8 | word as u64) as u32))
                .collect();
            hostile.publish_slots(&slots).unwrap();
            for _ in 0..bench.scale(50, 10) {
                sequence += 1;
                let added = honest.call(1, Add { amount: 1, sender: 0, sequence }).unwrap();
                assert_eq!((added.previous, added.last_sequence), (sequence - 1, sequence - 1));
            }
            // A frame at the end may want slots that never come: its lane waits for them, and only it.
            std::mem::forget(hostile);
            if engine.client().is_err() {
                break;
            }
        }
        eventually("what was taken is answered", || {
            let counters = counters(&engine);
            counters[Counter::Claimed as usize] == counters[Counter::Processed as usize]
        });
        let counters = counters(&engine);
        let of_garbage = counters[Counter::Processed as usize] - sequence;
        assert!(of_garbage > 0, "the garbage was looked at");
        assert_eq!(counters[Counter::Failed as usize], of_garbage, "and none of it was taken for a message");
        let (_, state) = engine.inspect::<CounterActor>(1).unwrap().unwrap();
        assert_eq!(state.value, sequence);
    }
}

on_every_backend! {
    fn clients_beyond_the_lanes_are_refused(bench: &Bench) {
        let engine = bench.builder().lanes(3).build().unwrap();
        let clients: Vec<_> = (0..3).map(|_| engine.client().unwrap()).collect();
        let refused = engine.client();
        assert!(matches!(refused, Err(EngineError::NoFreeLane { lanes: 3, held: 3, waiting: 0 })), "{refused:?}");
        drop(clients);
        assert!(engine.client().is_ok());
    }
}

const STALE: &[PtxText] = &[PtxText { compute_capability: 80, is_fresh: false, files: &[], text: "" }];

const NO_KERNEL: &str = ".version 8.4\n.target nothing";
const BROKEN: &[PtxText] = &[PtxText { compute_capability: 80, is_fresh: true, files: &[], text: NO_KERNEL }];

/// Asked for by name, a GPU that cannot be used is an error, and never CPU threads.
#[test]
fn cuda_by_name_never_falls_back() {
    let _turn = gpu_turn();
    let built = Engine::builder().backend(Backend::Cuda).resident(true).build();
    match &built {
        Ok(engine) => assert_eq!(engine.backend(), BackendKind::Cuda),
        Err(EngineError::StalePtx { cure }) => assert!(cure.contains("cargo xtask ptx")),
        Err(error) => assert!(is_for_want_of_a_gpu(error), "{error}"),
    }
    if is_skipped(Place::Gpu) {
        let text = built.expect_err("there is no GPU").to_string();
        assert!(text.contains("choose the cpu backend"), "the cure is named: {text}");
    }
}

/// `Auto` runs on CPU threads then, and says why.
#[test]
fn auto_falls_back_when_its_kernel_is_stale_and_says_why() {
    let image = tourbillon::shipped_image().with_ptx(STALE);
    let engine = Engine::builder_for(image.clone()).build().unwrap();
    assert_eq!(engine.backend(), BackendKind::Cpu);
    let reason = engine.fallback().expect("a reason").to_string();
    match Engine::builder_for(image).backend(Backend::Cuda).build() {
        Ok(_) => panic!("a stale kernel was launched"),
        Err(error) => assert_eq!(error.to_string(), reason),
    }
    let mut client = client(&engine);
    assert_eq!(client.call(1, Get {}), Ok(0));
}

/// A mistake in the configuration is no reason to fall back.
#[test]
fn auto_does_not_hide_bad_figures() {
    assert_eq!(figure_of(Engine::builder().shards(0).build()), "shards");
    assert!(matches!(Engine::builder().ring_capacity(12).build(), Err(EngineError::RingCapacity(_))));
}

on_backends! {
    [gpu]
    fn kernels_that_do_not_fit_are_refused_with_the_cure(bench: &Bench) {
        let stale = bench.builder_for(tourbillon::shipped_image().with_ptx(STALE)).build();
        assert!(matches!(stale, Err(EngineError::StalePtx { cure }) if cure.contains("cargo xtask ptx")), "{stale:?}");
        let none = bench.builder_for(Mixed::image()).build();
        assert!(matches!(none, Err(EngineError::NoPtx { system: "Mixed", .. })), "{none:?}");
        let bad = bench.builder_for(tourbillon::shipped_image().with_ptx(BROKEN)).build();
        assert!(matches!(bad, Err(EngineError::BadPtx { .. } | EngineError::Cuda { .. })), "{bad:?}");
        assert!(bench.builder().build().is_ok(), "the device is as usable as before");
    }
}

on_backends! {
    [gpu]
    fn a_gpu_runs_one_engine_of_a_process(bench: &Bench) {
        let first = bench.builder().build().unwrap();
        let second = bench.builder().build();
        assert!(matches!(second, Err(EngineError::DeviceBusy { .. })), "{second:?}");
        // Who does not insist gets the CPU, and is told why.
        let auto = Engine::builder().backend(Backend::Auto).build().unwrap();
        assert_eq!(auto.backend(), BackendKind::Cpu);
        assert!(matches!(auto.fallback(), Some(EngineError::DeviceBusy { .. })));
        assert_eq!(client(&first).call(1, Get {}), Ok(0));
        drop(first);
        assert!(bench.builder().build().is_ok(), "free again");
    }
}

on_backends! {
    [gpu]
    fn devices_that_do_not_exist_are_refused(bench: &Bench) {
        for selector in [DeviceSelector::Index(999), DeviceSelector::Uuid("GPU-00".into())] {
            let built = bench.builder().device(selector.clone()).build();
            match built {
                Err(EngineError::NoSuchDevice { selector: named, count }) => {
                    assert_eq!(named, selector.to_string());
                    assert!(count >= 1);
                }
                other => panic!("{other:?}"),
            }
        }
    }
}
