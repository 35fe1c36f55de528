//! Payloads larger than a frame, by way of the lanes' arenas.

use std::time::Duration;

use tourbillon::abi::arena::{ARENA_REF_WORDS, ArenaRef, LARGE_BYTES_MAX};
use tourbillon::abi::error::FailureCode;
use tourbillon::abi::header::{Flags, Header};
use tourbillon::actors::Blob;
use tourbillon::actors::blob::{Byte, Cut, Make, Mirror, OutOfRange, Seen, Sum, sum_of};
use tourbillon::actors::counter::{Add, Get};
use tourbillon::{Actor, CallError, Counter, Engine, EngineError, Message, Plain, SendError};
use tourbillon_tests::bench::{bytes_of, client, counted, eventually, mixed};
use tourbillon_tests::raw::{exchange, exchange_reference};
use tourbillon_tests::{on_backends, on_every_backend};

/// What a blob makes.
fn made(make: Make) -> Vec<u8> {
    (0..make.bytes).map(|index| make.byte_at(index)).collect()
}

/// The state of a blob.
fn blob(engine: &Engine, key: u64) -> Option<Blob> {
    engine.inspect::<Blob>(key).expect("the actor is read").map(|(_, state)| state)
}

on_every_backend! {
    /// From nothing over the edges of frames, lines and pieces to the largest, there and back.
    fn payloads_of_every_size_come_back_as_they_went(bench: &Bench) {
        let engine = bench.engine();
        let mut client = client(&engine);
        let mut sizes = vec![0, 1, 15, 16, 17, 127, 128, 129, 351, 352, 353, 511, 4095, 4096, 4097, 65_536, 65_537];
        if !bench.is_simulated() {
            sizes.extend([1_000_003, LARGE_BYTES_MAX - 1]);
        }
        sizes.push(LARGE_BYTES_MAX);
        let mut expected = Seen { word: 0, messages: 0, bytes: 0 };
        let mut into = vec![0; LARGE_BYTES_MAX];
        for (round, size) in sizes.into_iter().enumerate() {
            let payload = bytes_of(round as u64, size);
            expected = Seen { word: round as u64, messages: expected.messages + 1, bytes: expected.bytes + size as u64 };
            let (seen, length) = client.call_large_into(7, Mirror { word: round as u64 }, &payload, &mut into).unwrap();
            assert_eq!((seen, length), (expected, size));
            assert!(into[..length] == payload, "{size} bytes came back otherwise");
        }
        let payload = bytes_of(99, 10_001);
        let (seen, nothing) = client.call_large(7, Sum {}, &payload, 0).unwrap();
        assert_eq!((seen.word, nothing), (sum_of(&payload), Vec::new()));
        assert_eq!(blob(&engine, 7).unwrap().bytes, expected.bytes + 10_001);
    }
}

on_every_backend! {
    /// Replies longer and shorter than their requests, from any byte on, and never a byte of another message behind them.
    fn replies_have_lengths_of_their_own(bench: &Bench) {
        let engine = bench.builder().shards(1).build().unwrap();
        let mut client = client(&engine);
        // What is left in the buffer by this must not be seen by the others.
        let filler = bytes_of(1, 5_000);
        client.call_large(1, Mirror { word: 0 }, &filler, 5_000).unwrap();
        for (sent, asked) in [(0, 1), (0, 353), (10, 3_000), (3_000, 10), (17, 17), (300, 4_999)] {
            let make = Make { bytes: asked, seed: asked + sent as u32 };
            let (_, reply) = client.call_large(2, make, &bytes_of(5, sent), 5_000).unwrap();
            assert!(reply == made(make), "{sent} bytes there, {asked} back");
        }
        let payload = bytes_of(2, 4_000);
        for (first, bytes) in [(0, 4_000), (1, 1), (16, 64), (5, 1_000), (3_999, 1), (4_000, 0), (2_037, 1_963)] {
            let (_, reply) = client.call_large(3, Cut { first, bytes }, &payload, 4_000).unwrap();
            assert!(reply == payload[first as usize..(first + bytes) as usize], "{bytes} bytes from {first} on");
        }
    }
}

on_backends! {
    [native_1, native_3, simt_4, simt_32, simt_32_hostile]
    /// The bytes behind a reply in the arena, up to the next whole piece, are nobody's: not those of earlier messages.
    fn nothing_of_other_messages_is_sent_along(bench: &Bench) {
        let engine = bench.builder().shards(1).build().unwrap();
        let mut client = client(&engine);
        client.call_large(1, Mirror { word: 0 }, &[0xee; 512], 512).unwrap();
        // The handler writes nothing but the length: the rest must be zero.
        for bytes in [1, 15, 33, 200] {
            client.call_large(1, Mirror { word: 0 }, &[0xee; 512], 512).unwrap();
            let (_, reply) = client.call_large(2, Make { bytes, seed: 0 }, &[], 512).unwrap();
            assert_eq!(reply, made(Make { bytes, seed: 0 }));
        }
        let lane = client.lane().descriptor().map(|file| file.try_clone_to_owned().expect("a second descriptor"));
        let Some(lane) = lane else { return };
        use std::os::unix::fs::FileExt;
        let constants_end = 4096 + 128 * u64::from(client.lane().capacity());
        let reply = constants_end + u64::from(client.lane().arena_bytes()) + 128;
        let mut behind = [0xff; 8];
        std::fs::File::from(lane).read_exact_at(&mut behind, reply + 200).unwrap();
        assert_eq!(behind, [0; 8]);
    }
}

on_every_backend! {
    fn replies_without_room_are_refused_and_leave_no_trace(bench: &Bench) {
        let engine = bench.engine();
        let mut client = client(&engine);
        let payload = bytes_of(3, 2_000);
        for _ in 0..2 {
            let refused = client.call_large(4, Mirror { word: 1 }, &payload, 1_999);
            assert_eq!(refused.unwrap_err(), CallError::ReplyTooLarge);
            let refused = client.call_large(4, Make { bytes: 501, seed: 1 }, &payload, 500);
            assert_eq!(refused.unwrap_err(), CallError::ReplyTooLarge);
        }
        // Nor is there room where nothing is in an arena.
        assert_eq!(client.call(4, Make { bytes: 1, seed: 1 }), Err(CallError::ReplyTooLarge));
        let largest = LARGE_BYTES_MAX as u32;
        let refused = client.call_large(4, Make { bytes: largest + 1, seed: 1 }, &[], LARGE_BYTES_MAX);
        assert_eq!(refused.unwrap_err(), CallError::ReplyTooLarge);
        assert_eq!(counted(&engine, Counter::Failed), 6);
        assert_eq!(blob(&engine, 4), Some(Blob { messages: 0, bytes: 0 }));
        let (seen, reply) = client.call_large(4, Mirror { word: 1 }, &payload, 2_000).unwrap();
        assert_eq!((seen.messages, reply), (1, payload));
    }
}

on_every_backend! {
    fn errors_and_panics_free_the_block_and_undo_the_message(bench: &Bench) {
        let engine = bench.builder().lanes(1).arena_bytes(4_096).build().unwrap();
        let mut client = client(&engine);
        let payload = bytes_of(4, 3_000);
        for round in 0..bench.scale(40, 5) {
            let refused = client.call_large(5, Cut { first: 2_999, bytes: 2 }, &payload, 3_000);
            assert_eq!(refused.unwrap_err(), CallError::Handler(OutOfRange { bytes: 3_000 }));
            let panicked = client.call_large(5, Byte { index: 3_000 }, &payload, 3_000);
            assert!(matches!(panicked, Err(CallError::Panicked { line: 1.., .. })), "{panicked:?}");
            let (seen, rest) = client.call_large(5, Byte { index: 2_999 }, &payload, 3_000).unwrap();
            assert_eq!((seen.word, rest.len()), (payload[2_999].into(), 3_000));
            assert_eq!(blob(&engine, 5).unwrap().messages, round + 1);
        }
        assert_eq!(client.counts().arena_exhausted, 0, "one block was enough for all of them");
    }
}

on_every_backend! {
    fn what_cannot_be_sent_is_refused_with_why(bench: &Bench) {
        let engine = bench.builder().arena_bytes(4_000).build().unwrap();
        let mut client = client(&engine);
        let too_large = vec![0; LARGE_BYTES_MAX + 1];
        let refused = client.call_large(6, Mirror { word: 0 }, &too_large, 0).unwrap_err();
        assert_eq!(refused, CallError::PayloadTooLarge { bytes: LARGE_BYTES_MAX + 1, most: LARGE_BYTES_MAX });
        assert!(refused.to_string().contains("1048577"), "{refused}");
        let refused = client.call_large(6, Mirror { word: 0 }, &too_large[..3_969], 0).unwrap_err();
        assert_eq!(refused, CallError::ArenaTooSmall { bytes: 3_969, most: 3_968 });
        let refused = client.call_large(6, Mirror { word: 0 }, &[], 4_000).unwrap_err();
        assert_eq!(refused, CallError::ArenaTooSmall { bytes: 4_000, most: 3_968 });
        let refused = client.send_large(6, Mirror { word: 0 }, &too_large).unwrap_err();
        assert_eq!(refused, SendError::PayloadTooLarge { bytes: LARGE_BYTES_MAX + 1, most: LARGE_BYTES_MAX });
        assert_eq!(client.call_large(6, Mirror { word: 0 }, &[1; 3_968], 3_968).unwrap().1, [1; 3_968]);
        assert_eq!(client.counts().sent, 1);
        drop((client, engine));

        let engine = bench.builder().arena_bytes(0).build().unwrap();
        let mut without = tourbillon_tests::bench::client(&engine);
        let refused = without.call_large(6, Mirror { word: 0 }, &[1], 0).unwrap_err();
        assert_eq!(refused, CallError::ArenaTooSmall { bytes: 1, most: 0 });
        assert!(refused.to_string().contains("arena_bytes"), "{refused}");
        let smallest = ArenaRef { offset: 0, length: 0, room: 0, ticket: 1 };
        let (failure, _) = exchange_reference(&mut without, 6, &Mirror { word: 0 }, smallest);
        assert_eq!(failure, Some(FailureCode::ArenaOutOfBounds));
        assert_eq!(without.call(6, Get {}), Ok(0), "the lane goes on");
        drop((without, engine));

        let built = bench.builder().arena_bytes((1 << 30) + 1).build();
        assert!(matches!(built, Err(EngineError::Geometry(error)) if error.figure == "arena_bytes"), "{built:?}");
    }
}

on_every_backend! {
    fn an_exhausted_arena_is_told_counted_and_recovers(bench: &Bench) {
        let engine = bench.builder().arena_bytes(4_096).build().unwrap();
        let mut client = client(&engine);
        engine.pause().unwrap();
        let payload = bytes_of(6, 1_500);
        client.send_large(8, Mirror { word: 0 }, &payload).unwrap();
        client.send_large(8, Mirror { word: 0 }, &payload).unwrap();
        let refused = client.send_large(8, Mirror { word: 0 }, &payload).unwrap_err();
        assert_eq!(refused, SendError::ArenaExhausted { bytes: 1_664, free: 768 });
        assert!(refused.to_string().contains("arena_bytes") && refused.to_string().contains("768"), "{refused}");
        let refused = client.call_large(8, Mirror { word: 0 }, &payload[..700], 0).unwrap_err();
        assert_eq!(refused, CallError::ArenaExhausted { bytes: 896, free: 768 });
        // What has room is sent.
        client.send_large(8, Mirror { word: 0 }, &payload[..640]).unwrap();
        let counts = client.counts();
        assert_eq!((counts.sent, counts.arena_exhausted), (3, 2));
        engine.resume().unwrap();
        client.flush(Duration::from_secs(10)).unwrap();
        assert_eq!(client.counts().tells_done, 3);
        let (seen, reply) = client.call_large(8, Mirror { word: 0 }, &payload, 3_900).unwrap();
        assert_eq!((seen.messages, seen.bytes, reply), (4, 2 * 1_500 + 640 + 1_500, payload));
    }
}

on_every_backend! {
    /// References that lead anywhere: each is answered with a failure, nothing is read, no actor is woken, and the lane goes on.
    fn hostile_references_are_refused(bench: &Bench) {
        let engine = bench.builder().arena_bytes(1 << 16).build().unwrap();
        let mut client = client(&engine);
        let arena = client.lane().arena_bytes();
        let payload = bytes_of(7, 1_000);
        let good = ArenaRef { offset: 0, length: 1_000, room: 1_000, ticket: 1 };
        assert_eq!(client.call_large(9, Mirror { word: 0 }, &payload, 1_000).unwrap().1, payload);
        let outside = [
            ArenaRef { offset: arena, ..good },
            ArenaRef { offset: arena - 128, ..good },
            ArenaRef { offset: arena - 1_024, ..good },
            ArenaRef { offset: 1 << 31, ..good },
            ArenaRef { offset: u32::MAX - 127, ..good },
            ArenaRef { offset: 64, ..good },
            ArenaRef { offset: 1, ..good },
            ArenaRef { length: arena - 127, ..good },
            ArenaRef { length: u32::MAX, ..good },
            ArenaRef { length: u32::MAX - 127, room: 0, ..good },
            ArenaRef { length: 1 << 20, ..good },
            ArenaRef { room: arena, ..good },
            ArenaRef { room: u32::MAX, ..good },
            ArenaRef { ticket: 0, ..good },
            ArenaRef { offset: u32::MAX - 127, length: u32::MAX, room: u32::MAX, ticket: u32::MAX },
        ];
        for reference in outside {
            let (failure, _) = exchange_reference(&mut client, 10, &Mirror { word: 0 }, reference);
            assert_eq!(failure, Some(FailureCode::ArenaOutOfBounds), "{reference:?}");
        }
        // Inside, but not what stands there: blocks of other payloads, and of none.
        let stale = [
            ArenaRef { ticket: 2, ..good },
            ArenaRef { length: 999, ..good },
            ArenaRef { room: 0, ..good },
            ArenaRef { offset: 128, ..good },
            ArenaRef { offset: 4_096, ..good },
        ];
        for reference in stale {
            let (failure, _) = exchange_reference(&mut client, 10, &Mirror { word: 0 }, reference);
            assert_eq!(failure, Some(FailureCode::ArenaStale), "{reference:?}");
        }
        assert_eq!(blob(&engine, 10), None, "no actor was woken");
        let count = (outside.len() + stale.len()) as u64;
        assert_eq!(counted(&engine, Counter::Failed), count);
        assert_eq!(client.call_large(9, Mirror { word: 5 }, &payload, 1_000).unwrap().0.messages, 2);
    }
}

on_every_backend! {
    /// References with other extensions in front of them, and frames that have no room for one.
    fn references_keep_their_place_among_extensions(bench: &Bench) {
        let engine = bench.engine();
        let mut client = client(&engine);
        let payload = bytes_of(8, 800);
        client.call_large(11, Mirror { word: 0 }, &payload, 800).unwrap();
        let reference = ArenaRef { offset: 0, length: 800, room: 800, ticket: 1 };
        let message = Mirror { word: 77 };
        let header = |flags| Header { key: 11, kind: Blob::KIND, length: 8, flags, ..Header::default() };
        for extensions in [0, Flags::DEADLINE | Flags::IF_VERSION, Flags::SENDER | Flags::MESSAGE_ID, Flags::CAUSAL] {
            let flags = Flags::new(8, Flags::ARENA | extensions);
            // A deadline that never comes, an id that is new, any version.
            let mut words = vec![u32::MAX; (flags.extension_words() - ARENA_REF_WORDS) as usize];
            words.extend(reference.encode());
            words.extend([77, 0]);
            let (reply, failure, answer) = exchange(&mut client, header(flags), bytemuck::cast_slice(&words));
            assert_eq!((failure, answer.len()), (None, size_of::<Seen>()), "{reply:?}");
            let seen = Seen::from_bytes(&answer).unwrap();
            assert_eq!(seen.word, message.word);
            assert_eq!(reply.flags.has(Flags::VERSION), extensions & Flags::IF_VERSION != 0);
            assert_eq!(reply.hint, if reply.flags.has(Flags::VERSION) { 3 } else { 0 });
            if extensions & Flags::MESSAGE_ID != 0 {
                // The payload of a reply is never kept.
                let (_, failure, _) = exchange(&mut client, header(flags), bytemuck::cast_slice(&words));
                assert_eq!(failure, Some(FailureCode::Duplicate));
            }
        }
        // A span of one slot has room for a reference and nothing else.
        let (_, failure, _) = exchange(&mut client, header(Flags::new(1, Flags::ARENA)), &[0; 16]);
        assert_eq!(failure, Some(FailureCode::MalformedFrame));
        // The reply has a reference too: here it has none for it and its own bytes.
        let tight = Header { length: 0, message: Sum::NUMBER, ..header(Flags::new(1, Flags::ARENA)) };
        let (_, failure, _) = exchange(&mut client, tight, bytemuck::cast_slice(&reference.encode()));
        assert_eq!(failure, Some(FailureCode::ReplyTooLarge));
    }
}

on_every_backend! {
    /// The block of a call that was given up is used again when its reply has come, and not before: no reply lands in the
    /// payload of another.
    fn blocks_of_abandoned_calls_are_not_used_before_their_reply_has_come(bench: &Bench) {
        let engine = bench.builder().arena_bytes(8_192).build().unwrap();
        let mut client = client(&engine);
        let payload = |round: u64| bytes_of(round, 1_900);
        for round in 0..bench.scale(60, 8) {
            engine.pause().unwrap();
            client.set_timeout(Some(Duration::from_millis(1)));
            for lost in 0..4 {
                let given_up = client.call_large(12, Mirror { word: 0 }, &payload(1_000 + lost), 1_900);
                assert!(matches!(given_up, Err(CallError::Timeout { .. })), "{given_up:?}");
            }
            client.set_timeout(Some(tourbillon_tests::bench::REPLY_TIME_MAX));
            let refused = client.call_large(12, Mirror { word: 0 }, &payload(round), 1_900);
            assert!(matches!(refused, Err(CallError::ArenaExhausted { .. })), "{refused:?}");
            engine.resume().unwrap();
            // As soon as one of them has come, and while the others come.
            let mut answered = None;
            eventually("a block is free again", || {
                match client.call_large(12, Mirror { word: round }, &payload(round), 1_900) {
                    Err(CallError::ArenaExhausted { .. }) => false,
                    other => {
                        answered = Some(other.unwrap());
                        true
                    }
                }
            });
            let (seen, reply) = answered.unwrap();
            assert_eq!((seen.word, seen.messages), (round, 5 * (round + 1)));
            assert!(reply == payload(round), "round {round}: bytes of another payload");
        }
        let counts = client.counts();
        assert_eq!((counts.abandoned, counts.late), (4 * bench.scale(60, 8), 4 * bench.scale(60, 8)));
    }
}

on_every_backend! {
    /// Several payloads in flight from several clients, among small messages to the same actors, whatever is found: each comes
    /// back as it went, in order.
    fn large_and_small_messages_keep_their_order(bench: &Bench) {
        let engine = bench.builder().shards(3).arena_bytes(1 << 16).ring_capacity(64).build().unwrap();
        let (clients, rounds) = (3, bench.scale(300, 12));
        std::thread::scope(|scope| {
            for number in 0..clients {
                let mut client = client(&engine);
                scope.spawn(move || {
                    let key = |i: u64| 100 + i % 4;
                    for round in 0..rounds {
                        let mut sent = Vec::new();
                        let mut pipeline = client.large_pipeline::<Mirror>();
                        for i in 0..8 {
                            let payload = bytes_of(number << 32 | round << 8 | i, 353 + (mixed(round * 8 + i) % 5_000) as usize);
                            if pipeline.push(key(i), &Mirror { word: i }, &payload, payload.len()).unwrap() {
                                sent.push((i, payload));
                            }
                        }
                        assert!(sent.len() > 1);
                        for (i, payload) in sent {
                            let same = pipeline.pop_with(|reply| reply == payload).unwrap();
                            let (seen, is_same) = same.unwrap();
                            assert!(is_same && seen.word == i, "client {number}, round {round}, message {i}");
                        }
                        drop(pipeline);
                        let add = Add { amount: 1, sender: number as u32, sequence: round + 1 };
                        let before = (round + 1).saturating_sub(4);
                        assert_eq!(client.call(key(round), add).unwrap().last_sequence, before);
                        // Small, large, small, large to one actor: each finds what those before it left.
                        let own = 1_000 + number;
                        let nothing = Make { bytes: 0, seed: 0 };
                        client.send(own, nothing).unwrap();
                        client.send_large(own, Sum {}, &[7; 400]).unwrap();
                        client.send(own, nothing).unwrap();
                        let (seen, _) = client.call_large(own, Mirror { word: 0 }, &[1; 600], 600).unwrap();
                        assert_eq!((seen.messages, seen.bytes), (4 * (round + 1), 1_000 * (round + 1)));
                    }
                });
            }
        });
    }
}

on_every_backend! {
    /// A relaunch comes between payloads in flight; none is lost, doubled or mixed up.
    fn payloads_survive_relaunches_under_load(bench: &Bench) {
        let engine = bench.builder().shards(2).build().unwrap();
        let stop = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            let senders: Vec<_> = (0..2u64)
                .map(|number| {
                    let mut client = client(&engine);
                    let stop = &stop;
                    scope.spawn(move || {
                        let mut into = vec![0; 40_000];
                        let mut calls = 0;
                        while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                            let payload = bytes_of(number << 32 | calls, 20_000 + (mixed(calls) % 20_000) as usize);
                            let (seen, length) =
                                client.call_large_into(200 + number, Mirror { word: calls }, &payload, &mut into).unwrap();
                            calls += 1;
                            assert_eq!((seen.word, seen.messages), (calls - 1, calls));
                            assert!(into[..length] == payload);
                        }
                        calls
                    })
                })
                .collect();
            for _ in 0..bench.scale(8, 3) {
                std::thread::sleep(Duration::from_millis(20));
                engine.relaunch().unwrap();
            }
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
            for (number, sender) in (0..).zip(senders) {
                let calls = sender.join().expect("the client's thread");
                assert_eq!(blob(&engine, 200 + number).unwrap().messages, calls);
            }
        });
        assert_eq!(engine.launches(), 1 + bench.scale(8, 3));
    }
}

on_backends! {
    [native_1, gpu]
    /// A pause waits for the payload that is being copied, not for those behind it: a warp looks at its orders only every few
    /// windows, and a window with a large payload is long.
    fn a_pause_does_not_wait_for_payloads_that_nobody_began(bench: &Bench) {
        let (bytes, payloads) = (256 << 10, 24);
        let engine = bench.builder().shards(1).arena_bytes(payloads * (bytes + 128)).build().unwrap();
        let mut client = client(&engine);
        let payload = bytes_of(9, bytes as usize);
        let processed = || engine.device_counters().unwrap()[Counter::Processed as usize];
        engine.pause().unwrap();
        // A GPU goes on while this thread sleeps between two looks at what is obeyed.
        let most = if bench.loses_lanes() { 16 } else { 5 };
        let (mut fewest, mut tries) = (u64::MAX, 0);
        // This thread may sleep between the two commands, on a machine with other things to do often, but not every time.
        while fewest >= most && tries < 100 {
            tries += 1;
            let mut pipeline = client.large_pipeline::<Mirror>();
            for word in 0..payloads.into() {
                assert!(pipeline.push(16, &Mirror { word }, &payload, payload.len()).unwrap());
            }
            let before = processed();
            engine.resume().unwrap();
            engine.pause().unwrap();
            fewest = fewest.min(processed() - before);
            engine.resume().unwrap();
            for word in 0..payloads.into() {
                let (seen, is_same) = pipeline.pop_with(|reply| *reply == *payload).unwrap().unwrap();
                assert!(is_same && seen.word == word);
            }
            drop(pipeline);
            engine.pause().unwrap();
        }
        assert!(fewest < most, "at least {fewest} payloads were copied before the pause");
    }
}

on_every_backend! {
    /// Message passing through the arena, both ways: whoever finds the frame finds all of its payload. Every word of a payload
    /// is that of its message, at every length, in blocks that are used again at once.
    fn litmus_every_word_is_that_of_its_message(bench: &Bench) {
        let engine = bench.builder().shards(1).arena_bytes(2_048).build().unwrap();
        let mut client = client(&engine);
        let mut into = vec![0; 1_920];
        for round in 0..bench.scale(20_000, 150) {
            let word = (round as u32).wrapping_mul(0x9e37_79b9) | 1;
            let payload = vec![word; 120 + (round % 8) as usize * 45];
            let bytes: &[u8] = bytemuck::cast_slice(&payload);
            // Now the device says what it read, now it sends it back.
            if round % 3 == 0 {
                let (seen, _) = client.call_large_into(13, Sum {}, bytes, &mut into).unwrap();
                assert_eq!(seen.word, sum_of(bytes), "round {round}: the device read other words");
            } else {
                into.fill(0);
                let (_, length) = client.call_large_into(13, Mirror { word: round }, bytes, &mut into).unwrap();
                assert!(into[..length] == *bytes, "round {round}: other words came back");
            }
        }
    }
}

on_backends! {
    [native_1, simt_32]
    /// The next holder of a lane finds its arena free, and no ticket of the one before.
    fn a_lane_changes_hands_with_its_arena(bench: &Bench) {
        let engine = bench.builder().lanes(1).arena_bytes(4_096).build().unwrap();
        for round in 0..10 {
            engine.pause().unwrap();
            let mut first = client(&engine);
            first.send_large(14, Mirror { word: 0 }, &bytes_of(round, 1_800)).unwrap();
            first.send_large(14, Mirror { word: 0 }, &bytes_of(round, 1_801)).unwrap();
            drop(first);
            engine.resume().unwrap();
            let mut second = None;
            eventually("the lane is free", || {
                second = engine.client().ok();
                second.is_some()
            });
            let mut second = second.unwrap();
            let payload = bytes_of(100 + round, 3_900);
            let (seen, reply) = second.call_large(14, Mirror { word: 0 }, &payload, 3_900).unwrap();
            assert_eq!((seen.messages, reply), (3 * (round + 1), payload));
        }
    }
}

on_backends! {
    [native_1, simt_4]
    fn an_engine_that_stops_ends_what_is_in_flight(bench: &Bench) {
        let engine = bench.engine();
        let mut client = client(&engine);
        engine.pause().unwrap();
        let mut pipeline = client.large_pipeline::<Mirror>();
        for i in 0..4 {
            assert!(pipeline.push(15, &Mirror { word: i }, &[1; 500], 500).unwrap());
        }
        drop(engine);
        for _ in 0..4 {
            let reply = pipeline.pop_with(<[u8]>::len);
            assert!(matches!(reply, Some(Err(CallError::EngineStopped { .. }))), "{reply:?}");
        }
        assert!(pipeline.pop_with(<[u8]>::len).is_none());
        assert!(matches!(pipeline.push(15, &Mirror { word: 0 }, &[], 0), Err(SendError::EngineStopped { .. })));
    }
}
