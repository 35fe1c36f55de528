//! A topic as other actors know it.

use tourbillon_device::{ActorRef, Addressee, Answers, Context, Message, Plain};

use super::Topic;
use super::messages::{Brief, Policy, Publish, Subscribe, Unsubscribe, Urgency, reader};

/// A topic, by its number. Plain data, to be sent in messages and kept in states. A host gets it by the topic's name; numbers from
/// [`TopicRef::OWN_MIN`] on have no names, and are for actors that agree on them.
///
/// All that it does is to send letters, so the actor that calls it says `letters: true`, and it promises what letters do.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Plain)]
pub struct TopicRef {
    number: u64,
}

impl TopicRef {
    /// The first number that no name gets.
    pub const OWN_MIN: u64 = 1 << 16;

    /// The topic of this number.
    #[inline(always)]
    pub const fn new(number: u64) -> Self {
        Self { number }
    }

    /// Its number, which is the key of the actor [`Topic`].
    #[inline(always)]
    pub const fn number(self) -> u64 {
        self.number
    }

    /// That actor.
    #[inline(always)]
    pub const fn actor(self) -> ActorRef<Topic> {
        ActorRef::new(self.number)
    }

    /// Publishes a message, of up to 224 bytes, to all that are subscribed when it reaches the topic. Nobody waits for an answer: a
    /// message without subscribers, or one for which the topic has no place, is counted by the topic.
    #[inline]
    pub fn publish<P: Plain>(self, context: &mut Context, message: &P) {
        self.publish_as(context, message, Urgency::Normal);
    }

    /// As [`publish`](Self::publish), before all that wait and are not urgent.
    #[inline]
    pub fn publish_urgent<P: Plain>(self, context: &mut Context, message: &P) {
        self.publish_as(context, message, Urgency::Urgent);
    }

    #[inline]
    fn publish_as<P: Plain>(self, context: &mut Context, message: &P, urgency: Urgency) {
        match Brief::of(message, urgency) {
            Some(brief) => context.tell(self.actor(), &brief),
            None => context.tell(self.actor(), &Publish::of(message, urgency)),
        }
    }

    /// Publishes a message and gets its [`Receipt`](super::Receipt), or why there is none, as the message `C`, which wraps
    /// `Answered<Publish>`: for publishers that send a message again for which there was no room.
    #[inline]
    pub fn ask<P: Plain, C: Answers<Publish>>(self, context: &mut Context, message: &P, urgency: Urgency, token: u32) {
        context.ask::<Publish, C>(self.actor(), &Publish::of(message, urgency), token);
    }

    /// Has an actor get what is published from the moment on in which this reaches the topic, as its message `M`. What has another layout
    /// than `M` is not sent to it, and counted by the topic.
    #[inline]
    pub fn subscribe<M: Message>(self, context: &mut Context, who: ActorRef<M::Actor>) {
        let subscribe = Subscribe {
            who: Addressee::of::<M>(who),
            layout: const { reader::<M>() },
            policy: Policy::Drop,
            filler: 0,
        };
        context.tell(self.actor(), &subscribe);
    }

    /// Has an actor get no more of what is published.
    #[inline]
    pub fn unsubscribe<M: Message>(self, context: &mut Context, who: ActorRef<M::Actor>) {
        context.tell(self.actor(), &Unsubscribe { who: Addressee::of::<M>(who) });
    }
}
