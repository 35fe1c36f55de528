//! What is sent to a topic, and what it sends.

use tourbillon_device::shared::outbox::NOTICES_MAX;
use tourbillon_device::{Addressee, Message, Notice, Plain, PoolError, Subscriber};

/// Most bytes of what is published: a message that waits is one element of a collection, which has 256 bytes at most.
pub const TOPIC_PAYLOAD_MAX: usize = 224;
/// Most bytes of what is published by a [`Brief`], whose frame takes two slots.
pub const BRIEF_PAYLOAD_MAX: usize = 48;
/// Most subscribers of a topic, those that refuse to lose messages aside: who comes and goes is looked for among all, some hundred
/// microseconds of a GPU.
pub const SUBSCRIBERS_MAX: u32 = 1024;
/// Most subscribers of a topic that refuse to lose messages: all of them get a message by the handler that takes it.
pub const REFUSING_MAX: usize = NOTICES_MAX as usize;
/// Most messages of one urgency that wait in a topic until they are handed out: each takes a page, and so many are found in two loads.
pub const QUEUE_MAX: u32 = 64;

/// Which of two messages that wait is handed out first.
#[repr(u32)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Plain)]
pub enum Urgency {
    /// When no urgent one waits.
    #[default]
    Normal = 0,
    /// Before all that are not.
    Urgent = 1,
}

/// Publishes up to [`TOPIC_PAYLOAD_MAX`] bytes: every subscriber that reads messages of this layout gets them, exactly once.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
pub struct Publish {
    /// [`Plain::LAYOUT`] of what is published.
    pub layout: u64,
    /// Its bytes.
    pub length: u32,
    /// Whether it goes before others.
    pub urgency: Urgency,
    /// What is published, and zeros.
    pub payload: [u8; TOPIC_PAYLOAD_MAX],
}

/// As [`Publish`], of up to [`BRIEF_PAYLOAD_MAX`] bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
pub struct Brief {
    /// As in [`Publish`].
    pub layout: u64,
    /// As in [`Publish`].
    pub length: u32,
    /// As in [`Publish`].
    pub urgency: Urgency,
    /// As in [`Publish`].
    pub payload: [u8; BRIEF_PAYLOAD_MAX],
}

/// The first bytes of a longer array.
#[inline(always)]
fn padded<P: Plain, const BYTES: usize>(message: &P) -> [u8; BYTES] {
    let mut payload = [0; BYTES];
    for (to, from) in payload.iter_mut().zip(message.as_bytes()) {
        *to = *from;
    }
    payload
}

impl Publish {
    /// That which publishes `message`; more than [`TOPIC_PAYLOAD_MAX`] bytes do not compile.
    #[inline]
    pub fn of<P: Plain>(message: &P, urgency: Urgency) -> Self {
        const { assert!(size_of::<P>() <= TOPIC_PAYLOAD_MAX, "what is published has 224 bytes at most") };
        Self { layout: P::LAYOUT, length: size_of::<P>() as u32, urgency, payload: padded(message) }
    }
}

impl Brief {
    /// That which publishes `message`; nothing when it has more than [`BRIEF_PAYLOAD_MAX`] bytes.
    #[inline(always)]
    pub fn of<P: Plain>(message: &P, urgency: Urgency) -> Option<Self> {
        if size_of::<P>() > BRIEF_PAYLOAD_MAX {
            return None;
        }
        Some(Self { layout: P::LAYOUT, length: size_of::<P>() as u32, urgency, payload: padded(message) })
    }
}

/// What became of a message that was published.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Plain)]
pub enum Fate {
    /// Whoever is subscribed gets it, or has got it.
    Accepted = 0,
    /// Nobody is subscribed; the topic has counted it.
    NoSubscribers = 1,
    /// [`QUEUE_MAX`] messages of its urgency wait; the topic has counted it, and it may be published again.
    QueueFull = 2,
}

/// The reply to [`Publish`] and [`Brief`].
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
pub struct Receipt {
    /// Its number among all that the topic has accepted, from 1; 0 when it was not.
    pub number: u64,
    /// What became of it.
    pub fate: Fate,
    /// Subscribers that there were.
    pub subscribers: u32,
}

/// What a client does without room in its outbox for a message, as it chose when it opened that: an actor sees only this.
#[repr(u32)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Plain)]
pub enum Policy {
    /// It loses the message. Of no meaning for actors, whose mailboxes lose nothing.
    #[default]
    Drop = 0,
    /// The message is not published, and its publisher gets [`OutboxFull`](tourbillon_device::shared::error::FailureCode::OutboxFull).
    Refuse = 1,
}

/// Adds a subscriber, who gets all messages that are accepted from now on until it is removed; one that is there already stays. The
/// reply is a [`Standing`].
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
pub struct Subscribe {
    /// Who: a message of an actor, or a client ([`addressee_of`]).
    pub who: Addressee,
    /// [`Plain::LAYOUT`] of what it reads.
    pub layout: u64,
    /// For a client, that of its outbox.
    pub policy: Policy,
    /// Zero.
    pub filler: u32,
}

impl Subscribe {
    /// That which has `who` get messages of type `P`.
    #[inline]
    pub const fn of<P: Plain>(who: Addressee, policy: Policy) -> Self {
        const { assert!(size_of::<P>() <= TOPIC_PAYLOAD_MAX, "what is published has 224 bytes at most") };
        Self { who, layout: P::LAYOUT, policy, filler: 0 }
    }
}

/// Removes a subscriber, if it is there. What is not handed out to it by then it does not get. The reply is a [`Standing`].
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
pub struct Unsubscribe {
    /// Who.
    pub who: Addressee,
}

/// A client as the subscriber of a topic: of no kind, its lane and its generation in the key.
pub const fn addressee_of(subscriber: Subscriber) -> Addressee {
    let key = subscriber.lane as u64 | (subscriber.generation as u64) << 32;
    Addressee { key, kind: 0, message: 0, filler: 0 }
}

/// The client that a subscriber is, if it is one.
#[inline(always)]
pub(super) const fn client_in(who: Addressee) -> Option<Subscriber> {
    if who.kind != 0 {
        return None;
    }
    Some(Subscriber { lane: who.key as u32, generation: (who.key >> 32) as u32 })
}

/// Whether a subscriber can be one.
#[inline(always)]
pub(super) fn is_somebody(who: Addressee) -> bool {
    client_in(who).is_none_or(|client| !client.is_nobody())
}

/// The addressee that the message `M` of an actor is.
#[inline(always)]
pub(super) const fn reader<M: Message>() -> u64 {
    const { assert!(size_of::<M>() <= TOPIC_PAYLOAD_MAX, "what is published has 224 bytes at most") };
    M::LAYOUT
}

/// The topic goes on handing out.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
pub struct Step {
    /// Which round of it this is for: one of another does nothing.
    pub round: u32,
    /// Zero.
    pub filler: u32,
}

/// Shows how the topic stands. The reply is a [`Standing`].
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
pub struct Show {}

/// How a topic stands.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Plain)]
pub struct Standing {
    /// Messages that were accepted.
    pub accepted: u64,
    /// Letters and notices that it has sent to subscribers.
    pub handed_out: u64,
    /// Messages that were not accepted, for nobody was subscribed.
    pub unheard: u64,
    /// Messages that were not accepted, for too many waited.
    pub refused: u64,
    /// How often a message was not given to a subscriber that reads another layout.
    pub unreadable: u64,
    /// Messages that wait, the one that is being handed out included.
    pub waiting: u32,
    /// Subscribers.
    pub subscribers: u32,
}

/// Why a topic did nothing.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Plain)]
pub enum Refusal {
    /// The length is more than the message has, or the subscriber is nobody.
    Malformed = 1,
    /// The topic has [`SUBSCRIBERS_MAX`] subscribers.
    TooManySubscribers = 2,
    /// The topic has [`REFUSING_MAX`] subscribers that refuse to lose messages.
    TooManyRefusing = 3,
    /// Never sent: the engine says in its place how the shard's pool failed.
    Pool = 4,
}

impl From<PoolError> for Refusal {
    fn from(_: PoolError) -> Self {
        Self::Pool
    }
}

impl core::fmt::Display for Refusal {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Malformed => "the length is more than the message has, or the subscriber is nobody",
            Self::TooManySubscribers => "a topic has 1,024 subscribers at most; spread them over several topics",
            Self::TooManyRefusing => {
                "a topic has 4 subscribers at most that refuse to lose messages; let others drop what they have no room for"
            }
            Self::Pool => "the shard's pool failed",
        })
    }
}

impl core::error::Error for Refusal {}

/// A message as it waits in its topic, and as a client gets it: a notice, without the bytes behind its length.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
pub struct Published {
    /// Its number among all that the topic has accepted.
    pub number: u64,
    /// As in [`Publish`].
    pub layout: u64,
    /// As in [`Publish`].
    pub length: u32,
    /// As in [`Publish`].
    pub urgency: Urgency,
    /// As in [`Publish`].
    pub payload: [u8; TOPIC_PAYLOAD_MAX],
}

impl Notice for Published {
    const NUMBER: u16 = 1;
}

impl Published {
    /// Bytes in front of the payload.
    const HEAD_BYTES: usize = core::mem::offset_of!(Self, payload);

    /// What a topic was told to publish, without a number; nothing when it has fewer bytes than it says.
    #[inline(always)]
    pub(super) fn new(layout: u64, length: u32, urgency: Urgency, bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.get(..length as usize)?;
        let mut payload = [0; TOPIC_PAYLOAD_MAX];
        for (to, from) in payload.iter_mut().zip(bytes) {
            *to = *from;
        }
        Some(Self { number: 0, layout, length, urgency, payload })
    }

    /// What was published.
    #[inline(always)]
    pub fn bytes(&self) -> &[u8] {
        self.payload.get(..self.length as usize).unwrap_or_default()
    }

    /// What a client gets.
    #[inline(always)]
    pub(super) fn notice(&self) -> &[u8] {
        self.as_bytes().get(..Self::HEAD_BYTES + self.length as usize).unwrap_or_default()
    }

    /// What was published, out of the bytes of a notice; nothing when they are none.
    pub fn from_notice(bytes: &[u8]) -> Option<Self> {
        let length = bytes.len().checked_sub(Self::HEAD_BYTES)?;
        let mut whole = [0; size_of::<Self>()];
        whole.get_mut(..bytes.len())?.copy_from_slice(bytes);
        Self::from_bytes(&whole).filter(|published| published.length as usize == length)
    }

    /// The message, if it is one of type `P`.
    pub fn decode<P: Plain>(&self) -> Option<P> {
        if self.layout == P::LAYOUT { P::from_bytes(self.bytes()) } else { None }
    }
}

const _: () = {
    assert!(size_of::<Published>() == 248 && Published::HEAD_BYTES == 24);
    assert!(size_of::<Publish>() == 240 && size_of::<Brief>() == 64);
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notices_come_back() {
        let whole = Published::new(u64::LAYOUT, 8, Urgency::Urgent, &7u64.to_le_bytes()).unwrap();
        assert_eq!(whole.notice().len(), 32);
        let back = Published::from_notice(whole.notice()).unwrap();
        assert_eq!((back, back.decode::<u64>(), back.decode::<i64>()), (whole, Some(7), None));
        assert_eq!(Published::from_notice(&whole.notice()[..31]), None, "its length says otherwise");
        assert_eq!(Published::from_notice(&whole.notice()[..8]), None);
        assert_eq!(Published::from_notice(&[0; 300]), None);
        assert_eq!(Published::new(1, 9, Urgency::Normal, &[0; 8]), None, "more than there is");
    }

    #[test]
    fn clients_are_of_no_kind() {
        let client = Subscriber { lane: 3, generation: 9 };
        assert_eq!(client_in(addressee_of(client)), Some(client));
        assert!(is_somebody(addressee_of(client)) && !is_somebody(Addressee::default()));
        assert_eq!(client_in(Addressee { key: 3, kind: 1, ..Addressee::default() }), None);
    }
}
