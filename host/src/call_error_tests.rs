//! How failures become errors.

use super::*;
use tourbillon_actors::echo::Ping16;
use tourbillon_device::NoError;
use tourbillon_shared::error::file_hash;

fn failure(words: &[u32]) -> CallError<u32> {
    CallError::of_failure(&Header { key: 6, ..Header::default() }, bytemuck::cast_slice(words))
}

#[test]
fn failures_become_typed_errors() {
    assert_eq!(failure(&[FailureCode::Handler as u32, 77]), CallError::Handler(77));
    let panicked = CallError::<NoError>::of_failure(
        &Header { key: 6, ..Header::default() },
        bytemuck::cast_slice(&[FailureCode::Panicked as u32, 3, 4, 5]),
    );
    let message = "tourbillon_actors::echo::Ping16";
    let named = CallError::Panicked { actor: "Echo", key: 6, message, line: 3, column: 4, file: None, file_hash: 5 };
    assert_eq!(panicked.named::<Ping16>(), named);
    for (code, expected) in [
        (FailureCode::UnknownKind, CallError::UnknownKind),
        (FailureCode::UnknownMessage, CallError::UnknownMessage),
        (FailureCode::DirectoryFull, CallError::DirectoryFull),
        (FailureCode::UnknownKeySpace, CallError::UnknownKeySpace),
        (FailureCode::TooManyWaiting, CallError::TooManyWaiters),
        (FailureCode::FetchFailed, CallError::FetchFailed),
        (FailureCode::MalformedFrame, CallError::MalformedFrame),
        (FailureCode::ClockDrift, CallError::ClockDrift),
        (FailureCode::InvalidPayload, CallError::InvalidPayload),
        (FailureCode::ReplyTooLarge, CallError::ReplyTooLarge),
        (FailureCode::PoolExhausted, CallError::PoolExhausted),
        (FailureCode::PoolUndeclared, CallError::PoolUndeclared),
        (FailureCode::PoolStale, CallError::PoolStale),
        (FailureCode::BlockUndeclared, CallError::BlockUndeclared),
        (FailureCode::BlockUnknown, CallError::BlockUnknown),
        (FailureCode::BlockStale, CallError::BlockStale),
        (FailureCode::BlockForeign, CallError::BlockForeign),
        (FailureCode::TooManyBroadcasts, CallError::TooManyBroadcasts),
        (FailureCode::CannotBroadcast, CallError::CannotBroadcast),
        (FailureCode::HostAbsent, CallError::HostAbsent),
        (FailureCode::HostEnded, CallError::HostEnded),
        (FailureCode::HostBusy, CallError::HostBusy),
        (FailureCode::BlockTooLong, CallError::BlockTooLong { most: 14336 }),
    ] {
        assert_eq!(failure(&[code as u32, 0, 0, 0]), expected);
    }
    assert_eq!(failure(&[FailureCode::DeadlinePassed as u32, 0, 0, 0]), CallError::DeadlinePassed);
    let stale = CallError::StaleVersion { current: 7 | 1 << 32 };
    assert_eq!(failure(&[FailureCode::StaleVersion as u32, 7, 1, 0]), stale);
    assert_eq!(failure(&[FailureCode::Duplicate as u32, 9, 0, 0]), CallError::Duplicate { version: 9 });
    let full = CallError::<u32>::of_failure(
        &Header { hops: 3, ..Header::default() },
        bytemuck::cast_slice(&[FailureCode::MailboxFull as u32, 0, 0, 0]),
    );
    assert_eq!(full, CallError::MailboxFull { hops: 3 });
}

#[test]
fn panics_name_their_file_where_it_is_known() {
    let told = |hash| {
        let panicked = CallError::<NoError>::of_failure(
            &Header { key: 6, ..Header::default() },
            bytemuck::cast_slice(&[FailureCode::Panicked as u32, 3, 4, hash]),
        );
        panicked.named::<Ping16>().to_string()
    };
    let begin = "the handler of tourbillon_actors::echo::Ping16 of actor Echo 6 panicked at ";
    panic_files::note("src/of_this_test.rs");
    let hash = file_hash("src/of_this_test.rs");
    assert_eq!(told(hash), format!("{begin}src/of_this_test.rs:3:4; correct it there"));
    let unknown = told(hash ^ 1);
    assert!(
        unknown.starts_with(&format!("{begin}line 3, column 4 of a file that this program does not know")),
        "{unknown}"
    );
    assert!(unknown.contains(&format!("{:#010x}", hash ^ 1)) && unknown.contains("dependency"), "{unknown}");
    assert!(told(0).starts_with(&format!("{begin}a place that the compiler left out")), "{}", told(0));
}

#[test]
fn hostile_failures_are_refused() {
    for words in [&[][..], &[0], &[99, 1, 2, 3], &[1], &[1, 2, 3], &[2, 1]] {
        assert_eq!(failure(words), CallError::InvalidReply, "{words:?}");
    }
    assert_eq!(CallError::<bool>::of_failure(&Header::default(), &[1, 0, 0, 0, 2]), CallError::InvalidReply);
    assert_eq!(CallError::<bool>::of_failure(&Header::default(), &[1, 0, 0, 0, 1]), CallError::Handler(true));
}

#[test]
fn texts_name_cause_and_cure() {
    let text = CallError::<u32>::DirectoryFull.to_string();
    assert!(text.contains("no room") && text.contains("actors_per_shard"));
    let text = SendError::PayloadTooLarge { bytes: 400, most: 352 }.to_string();
    assert!(text.contains("400") && text.contains("352"));
    let text = SendError::ArenaExhausted { bytes: 1152, free: 768 }.to_string();
    assert!(text.contains("1152") && text.contains("768") && text.contains("`arena_bytes`"));
    let text = SendError::ArenaTooSmall { bytes: 1000, most: 0 }.to_string();
    assert!(text.contains("1000") && text.contains("`arena_bytes`"));
}
