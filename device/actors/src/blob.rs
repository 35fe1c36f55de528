//! Takes and gives payloads that are larger than a frame.

use tourbillon_device::{Context, Handler, Plain, State, actor};

/// An actor whose messages come with payloads of up to 1 MiB.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, State)]
pub struct Blob {
    /// Messages handled.
    pub messages: u64,
    /// Bytes of their payloads.
    pub bytes: u64,
}

/// Asks for the payload back.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
pub struct Mirror {
    /// Any content; comes back in the reply.
    pub word: u64,
}

/// Asks for a part of the payload.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
pub struct Cut {
    /// Its first byte.
    pub first: u32,
    /// How many.
    pub bytes: u32,
}

/// Asks for a payload that is made from a seed.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
pub struct Make {
    /// How many bytes.
    pub bytes: u32,
    /// What they are made from.
    pub seed: u32,
}

/// Asks for the [`sum_of`] the payload.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
pub struct Sum {}

/// Asks for one byte of the payload; a handler that panics when there is none.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
pub struct Byte {
    /// Which.
    pub index: u64,
}

/// What the actor has seen, this message included. Larger than a frame of one slot carries: what has no payload beside it is no
/// business of this actor's, and its handlers need not be on the short way of small messages.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
pub struct Seen {
    /// The message's word, the sum or the byte that was asked for; else 0.
    pub word: u64,
    /// Messages handled.
    pub messages: u64,
    /// Bytes of their payloads.
    pub bytes: u64,
}

/// Why a blob refused.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
pub struct OutOfRange {
    /// Bytes of the payload.
    pub bytes: u64,
}

impl core::fmt::Display for OutOfRange {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "the range leads out of the payload, which has {} bytes", self.bytes)
    }
}

impl core::error::Error for OutOfRange {}

/// A sum over bytes that changes with any of them, and with their order: FNV-1a (Fowler, Noll, Vo) over words of eight bytes, then
/// over the bytes that are left.
pub fn sum_of(bytes: &[u8]) -> u64 {
    let step = |sum: u64, value: u64| (sum ^ value).wrapping_mul(0x0000_0100_0000_01b3);
    let (whole, rest) = bytes.split_at(bytes.len() / 8 * 8);
    let start = 0xcbf2_9ce4_8422_2325;
    let sum = match bytemuck::try_cast_slice::<u8, u64>(whole) {
        // As on the device, where eight loads of one byte would take eight times as long.
        Ok(words) => words.iter().fold(start, |sum, word| step(sum, u64::from_le(*word))),
        Err(_) => whole.as_chunks::<8>().0.iter().fold(start, |sum, bytes| step(sum, u64::from_le_bytes(*bytes))),
    };
    rest.iter().fold(sum, |sum, byte| step(sum, u64::from(*byte)))
}

impl Make {
    /// The byte at `index` of what is made.
    pub fn byte_at(&self, index: u32) -> u8 {
        let word = (self.seed ^ (index / 4)).wrapping_mul(0x9e37_79b1);
        (word >> (8 * (index % 4))) as u8
    }
}

impl Blob {
    fn see(&mut self, word: u64, bytes: usize) -> Seen {
        self.messages += 1;
        self.bytes += bytes as u64;
        Seen { word, messages: self.messages, bytes: self.bytes }
    }
}

impl Handler<Mirror> for Blob {
    type Reply = Seen;

    fn handle(&mut self, message: &Mirror, context: &mut Context) -> Result<Seen, OutOfRange> {
        let bytes = context.payload().len();
        context.reply_with(0..bytes);
        Ok(self.see(message.word, bytes))
    }
}

impl Handler<Cut> for Blob {
    type Reply = Seen;

    fn handle(&mut self, message: &Cut, context: &mut Context) -> Result<Seen, OutOfRange> {
        // Counted first: a message that is refused must leave no trace nevertheless.
        let length = context.payload().len();
        let seen = self.see(0, length);
        let first = message.first as usize;
        match first.checked_add(message.bytes as usize) {
            Some(end) if end <= length => {
                context.reply_with(first..end);
                Ok(seen)
            }
            _ => Err(OutOfRange { bytes: length as u64 }),
        }
    }
}

impl Handler<Make> for Blob {
    type Reply = Seen;

    fn handle(&mut self, message: &Make, context: &mut Context) -> Result<Seen, OutOfRange> {
        let seen = self.see(0, context.payload().len());
        // Without room the engine refuses the message, whatever is returned here.
        if let Some(reply) = context.reply_mut(message.bytes as usize) {
            for (byte, index) in reply.iter_mut().zip(0..) {
                *byte = message.byte_at(index);
            }
        }
        Ok(seen)
    }
}

impl Handler<Sum> for Blob {
    type Reply = Seen;

    fn handle(&mut self, _message: &Sum, context: &mut Context) -> Result<Seen, OutOfRange> {
        Ok(self.see(sum_of(context.payload()), context.payload().len()))
    }
}

impl Handler<Byte> for Blob {
    type Reply = Seen;

    fn handle(&mut self, message: &Byte, context: &mut Context) -> Result<Seen, OutOfRange> {
        let seen = self.see(0, context.payload().len());
        // What would be the reply's payload, were there no panic.
        context.reply_with(0..context.payload().len().min(context.reply_room()));
        Ok(Seen { word: context.payload()[message.index as usize].into(), ..seen })
    }
}

actor!(Blob { kind: 5, error: OutOfRange, messages: { #[outlined] 0: Mirror, #[outlined] 1: Cut, #[outlined] 2: Make, #[outlined] 3: Sum, #[outlined] 4: Byte } });

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_do_not_depend_on_the_place() {
        let bytes: Vec<u8> = (0..1000u32).map(|i| (i * 7) as u8).collect();
        for length in [0, 1, 7, 8, 9, 960, 991] {
            let mut shifted = vec![0; 1];
            shifted.extend_from_slice(&bytes[..length]);
            assert_eq!(sum_of(&bytes[..length]), sum_of(&shifted[1..]), "{length}");
        }
        assert_ne!(sum_of(&bytes[..8]), sum_of(&bytes[1..9]));
        assert_ne!(sum_of(&[0, 1]), sum_of(&[1, 0]));
    }
}
