//! Requests as no well-meaning client writes them.

use tourbillon::abi::arena::ArenaRef;
use tourbillon::abi::error::FailureCode;
use tourbillon::abi::frame::{span_of_call, span_of_large_call};
use tourbillon::abi::header::{Flags, Header};
use tourbillon::{Actor, Client, ErrorOf, Message, ReplyOf};

/// The header of a sensible request `M` to `key`, to be spoiled.
pub fn header_of<M: Message>(key: u64) -> Header {
    let span = span_of_call(0, size_of::<M>(), size_of::<ReplyOf<M>>(), size_of::<ErrorOf<M>>());
    Header {
        key,
        kind: <M::Actor as Actor>::KIND,
        message: M::NUMBER,
        length: size_of::<M>() as u16,
        flags: Flags::new(span, 0),
        ..Header::default()
    }
}

/// Sends a request as it is; the reply's header, and its failure if it is one.
///
/// # Panics
/// When there is no reply, or a failure without a code.
pub fn exchange(client: &mut Client, header: Header, payload: &[u8]) -> (Header, Option<FailureCode>, Vec<u8>) {
    let (reply, payload) = client.call_raw(header, payload).expect("a reply");
    assert!(reply.flags.has(Flags::REPLY), "{reply:?}");
    let failure = reply.flags.has(Flags::FAILED).then(|| {
        let word = payload.get(..4).map(|bytes| u32::from_le_bytes(bytes.try_into().expect("four bytes")));
        word.and_then(FailureCode::from_word).unwrap_or_else(|| panic!("a failure without a code: {payload:?}"))
    });
    (reply, failure, payload)
}

/// Sends a request `M` to `key` whose payload is where `reference` says, sensible or not: the failure, if it is one, and the bytes of the
/// reply.
///
/// # Panics
/// As [`exchange`]; when a reply has a reference of its own and should not, or the other way round.
pub fn exchange_reference<M: Message>(
    client: &mut Client,
    key: u64,
    message: &M,
    reference: ArenaRef,
) -> (Option<FailureCode>, Vec<u8>) {
    let span = span_of_large_call(size_of::<M>(), size_of::<ReplyOf<M>>(), size_of::<ErrorOf<M>>());
    let header = Header { flags: Flags::new(span, Flags::ARENA), ..header_of::<M>(key) };
    let mut payload: Vec<u8> = bytemuck::cast_slice(&reference.encode()).to_vec();
    payload.extend_from_slice(message.as_bytes());
    let (reply, failure, payload) = exchange(client, header, &payload);
    assert_eq!(reply.flags.has(Flags::ARENA), failure.is_none(), "{reply:?}");
    (failure, payload)
}
