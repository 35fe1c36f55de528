//! The work that every peer does, and what its replies must be.
//!
//! An actor adds an amount to its sum, notes the sender's sequence number, and answers with what both were before: what
//! the engine's shipped counter does. A request and a reply have 48 bytes each, as many as a 64-byte slot of the engine
//! carries beside its tags, header included.

use thiserror::Error;

/// Actors, whoever runs them.
pub const ACTORS: u64 = 64;
/// Senders that one actor tells apart.
pub const SENDERS: usize = 14;

/// Adds to an actor's sum.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// The actor.
    pub key: u64,
    /// The sender's number of this message at this actor, from 1.
    pub sequence: u64,
    /// What to add.
    pub amount: u32,
    /// Who sends, below [`SENDERS`].
    pub sender: u32,
    /// Comes back in the reply. In the engine's slots there are other parts of the header in its place.
    pub rest: [u64; 3],
}

/// What an actor was before a request.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reply {
    /// The actor.
    pub key: u64,
    /// Its sum before.
    pub previous: u64,
    /// The sender's sequence number before.
    pub last_sequence: u64,
    /// As in the request.
    pub rest: [u64; 3],
}

const _: () = assert!(size_of::<Request>() == 48 && size_of::<Reply>() == 48);

impl Request {
    /// The reply to it from an actor that was so before.
    pub fn reply(&self, previous: u64, last_sequence: u64) -> Reply {
        Reply { key: self.key, previous, last_sequence, rest: self.rest }
    }
}

/// An actor's state: 64 bytes.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    value: u64,
    last_sequence: [u32; SENDERS],
}

impl Tally {
    /// Handles a request. A sender or a sequence number out of range leaves the sequence numbers as they are, which the
    /// sender sees.
    pub fn add(&mut self, request: &Request) -> Reply {
        let mut last = 0;
        if let Some(place) = self.last_sequence.get_mut(request.sender as usize) {
            last = *place;
            *place = request.sequence as u32;
        }
        let reply = request.reply(self.value, last.into());
        self.value = self.value.wrapping_add(request.amount.into());
        reply
    }
}

/// The actors `first ..` in a table, for peers that have no actors of their own.
#[derive(Clone, Debug)]
pub struct Table {
    first: u64,
    actors: Vec<Tally>,
}

impl Table {
    /// As many actors as a pair of threads has among `pairs`; those of pair number `pair`.
    pub fn of_pair(pair: u64, pairs: u64) -> Self {
        let keys = keys_of_pair(pair, pairs);
        Self { first: keys.start, actors: vec![Tally::default(); (keys.end - keys.start) as usize] }
    }

    /// Handles a request; one to an actor that is not here gets a reply that its sender refuses.
    pub fn add(&mut self, request: &Request) -> Reply {
        let index = request.key.wrapping_sub(self.first) as usize;
        self.actors.get_mut(index).map_or(Reply::default(), |actor| actor.add(request))
    }
}

/// The keys of the actors of pair number `pair` among `pairs`, which divides [`ACTORS`].
pub fn keys_of_pair(pair: u64, pairs: u64) -> std::ops::Range<u64> {
    let count = ACTORS / pairs;
    pair * count..(pair + 1) * count
}

/// A reply that cannot be.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("{request:?} was answered with {reply:?}; a run with a wrong reply has no figures")]
pub struct WrongReply {
    request: Request,
    reply: Reply,
}

/// One asker: it goes round its actors, and knows what each reply must be.
#[derive(Clone, Debug)]
pub struct Asker {
    sender: u32,
    first: u64,
    /// Requests to each actor so far.
    counts: Vec<u32>,
    /// The least that each actor's sum can be.
    least: Vec<u64>,
    /// Whether nobody else adds to these actors: then their sums are known.
    is_alone: bool,
    asked: u64,
}

impl Asker {
    /// An asker that alone uses the actors `keys`.
    pub fn alone(keys: std::ops::Range<u64>) -> Self {
        Self::new(0, keys, true)
    }

    /// An asker that shares the actor `key` with others of other `sender` numbers.
    pub fn sharing(sender: u32, key: u64) -> Self {
        Self::new(sender, key..key + 1, false)
    }

    fn new(sender: u32, keys: std::ops::Range<u64>, is_alone: bool) -> Self {
        let count = (keys.end - keys.start) as usize;
        Self { sender, first: keys.start, counts: vec![0; count], least: vec![0; count], is_alone, asked: 0 }
    }

    /// The next request, to the next actor.
    pub fn request(&mut self) -> Request {
        let index = (self.asked % self.counts.len() as u64) as usize;
        self.asked += 1;
        self.counts[index] += 1;
        let sequence = u64::from(self.counts[index]);
        let key = self.first + index as u64;
        let rest = [self.asked, self.asked.wrapping_mul(0x9e37_79b9_7f4a_7c15), !self.asked];
        Request { key, sequence, amount: 1, sender: self.sender, rest }
    }

    /// Checks the reply to a request; those of one actor are to be checked in the order of the requests.
    ///
    /// # Errors
    /// [`WrongReply`]: something was lost, doubled, changed or out of order.
    pub fn check(&mut self, request: &Request, reply: &Reply) -> Result<(), WrongReply> {
        let wrong = WrongReply { request: *request, reply: *reply };
        let index = request.key.wrapping_sub(self.first) as usize;
        let least = self.least.get_mut(index).ok_or(wrong)?;
        let sum_is_right = if self.is_alone { reply.previous == *least } else { reply.previous >= *least };
        *least = reply.previous + u64::from(request.amount);
        let is_right = sum_is_right
            && reply.key == request.key
            && reply.rest == request.rest
            && reply.last_sequence + 1 == request.sequence;
        if is_right { Ok(()) } else { Err(wrong) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn right_replies_pass() {
        let mut table = Table::of_pair(1, 4);
        let mut asker = Asker::alone(keys_of_pair(1, 4));
        for _ in 0..100 {
            let request = asker.request();
            assert_eq!(asker.check(&request, &table.add(&request)), Ok(()));
        }
        let mut actor = Tally::default();
        let mut askers = [Asker::sharing(0, 7), Asker::sharing(13, 7)];
        for turn in 0..100 {
            let asker = &mut askers[usize::from(turn % 3 == 0)];
            let request = asker.request();
            assert_eq!(asker.check(&request, &actor.add(&request)), Ok(()));
        }
        assert_eq!(actor.value, 100);
    }

    #[test]
    fn wrong_replies_do_not() {
        let mut asker = Asker::alone(0..2);
        let mut table = Table::of_pair(0, 32);
        let (first, second) = (asker.request(), asker.request());
        let (one, two) = (table.add(&first), table.add(&second));
        for wrong in [
            two,
            Reply { previous: 1, ..one },
            Reply { last_sequence: 1, ..one },
            Reply { rest: [0; 3], ..one },
            Reply { key: 1, ..one },
        ] {
            assert!(asker.clone().check(&first, &wrong).is_err(), "{wrong:?}");
        }
        assert_eq!(asker.check(&first, &one), Ok(()));
        // Doubled, lost, and of an actor that is not there.
        assert!(asker.clone().check(&first, &one).is_err());
        let _ = asker.request();
        let third = asker.request();
        let mut lost = asker.clone();
        assert!(lost.check(&Request { sequence: 3, ..third }, &table.add(&third)).is_err());
        assert_eq!(table.add(&Request { key: 99, ..first }), Reply::default());
        let mut other = Asker::sharing(1, 0);
        let request = other.request();
        assert!(other.check(&request, &Tally::default().add(&Request { sender: 14, ..request })).is_ok());
        let again = other.request();
        assert!(other.check(&again, &Tally::default().add(&again)).is_err(), "an actor that forgot");
    }
}
