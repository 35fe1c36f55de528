//! Tells its subscribers, without being asked.

use tourbillon_device::{Context, Handler, Notice, Plain, State, Subscriber, actor};

/// Most subscribers: as many as one message may post notices.
pub const SUBSCRIBERS_MAX: usize = 4;

/// An actor with a few subscribers.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, State)]
pub struct Herald {
    /// Announcements made.
    pub announced: u64,
    /// Who gets them; nobody in free places.
    pub subscribers: [Subscriber; SUBSCRIBERS_MAX],
}

/// Adds a subscriber; one that is there already stays.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
pub struct Subscribe {
    /// Who: a client gets its own from its outbox.
    pub subscriber: Subscriber,
}

/// Removes a subscriber, if it is there.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
pub struct Unsubscribe {
    /// Who.
    pub subscriber: Subscriber,
}

/// Posts [`News`] to every subscriber.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
pub struct Announce {
    /// Any content.
    pub word: u64,
}

/// Posts a [`Bulletin`] to every subscriber.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
pub struct Publish {
    /// Any content.
    pub word: u64,
}

/// How a [`Provoke`] ends.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
pub enum Ending {
    /// Well.
    Well = 0,
    /// With the actor's error.
    Error = 1,
    /// With a panic.
    Panic = 2,
}

/// Posts [`News`] several times to the first subscriber, then ends as it is told.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
pub struct Provoke {
    /// How many times.
    pub times: u32,
    /// What happens then.
    pub ending: Ending,
}

/// How a herald stands after a message. Larger than a frame of one slot carries: who posts is left to the long way in any case, and need
/// not be tried on the short way of small messages first.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
pub struct Standing {
    /// Announcements made.
    pub announced: u64,
    /// Subscribers.
    pub subscribers: u64,
    /// Timestamp of the message: what is announced later has a later one.
    pub hlc: u64,
}

/// What subscribers get: 16 bytes, so that it fits into one slot.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
pub struct News {
    /// The announcement's.
    pub word: u64,
    /// Its number, from 1.
    pub sequence: u64,
}

impl Notice for News {
    const NUMBER: u16 = 1;
}

/// News as long as a frame carries.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
pub struct Bulletin {
    /// What was announced.
    pub news: News,
    /// Each is the one before, mixed; the first is the announcement's.
    pub words: [u64; 42],
}

impl Notice for Bulletin {
    const NUMBER: u16 = 0x102;
}

impl Bulletin {
    /// The bulletin of some news.
    pub fn of(news: News) -> Self {
        let mut bulletin = Self { news, words: [0; 42] };
        let mut last = news.word;
        for word in &mut bulletin.words {
            // One after the other: on a GPU, places that are worked out side by side take registers from everything else.
            last = last.rotate_left(1).wrapping_add(1);
            *word = last;
        }
        bulletin
    }
}

/// Why a herald refused.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
pub struct Refused {
    /// Subscribers that it has.
    pub subscribers: u32,
}

impl core::fmt::Display for Refused {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "the herald has {} subscribers and takes no more, or was told to fail", self.subscribers)
    }
}

impl core::error::Error for Refused {}

impl Herald {
    fn count(&self) -> u32 {
        self.subscribers.iter().filter(|subscriber| !subscriber.is_nobody()).count() as u32
    }

    fn standing(&self, context: &Context) -> Standing {
        Standing { announced: self.announced, subscribers: self.count().into(), hlc: context.hlc() }
    }

    fn next(&mut self, word: u64) -> News {
        self.announced += 1;
        News { word, sequence: self.announced }
    }

    fn tell<N: Notice>(&self, notice: &N, context: &mut Context) {
        for subscriber in self.subscribers {
            if !subscriber.is_nobody() {
                context.post(subscriber, notice);
            }
        }
    }
}

impl Handler<Subscribe> for Herald {
    type Reply = Standing;

    fn handle(&mut self, message: &Subscribe, context: &mut Context) -> Result<Standing, Refused> {
        if !self.subscribers.contains(&message.subscriber) {
            let subscribers = self.count();
            let free = self.subscribers.iter_mut().find(|place| place.is_nobody());
            *free.ok_or(Refused { subscribers })? = message.subscriber;
        }
        Ok(self.standing(context))
    }
}

impl Handler<Unsubscribe> for Herald {
    type Reply = Standing;

    fn handle(&mut self, message: &Unsubscribe, context: &mut Context) -> Result<Standing, Refused> {
        for place in self.subscribers.iter_mut().filter(|place| **place == message.subscriber) {
            *place = Subscriber::NOBODY;
        }
        Ok(self.standing(context))
    }
}

impl Handler<Announce> for Herald {
    type Reply = Standing;

    fn handle(&mut self, message: &Announce, context: &mut Context) -> Result<Standing, Refused> {
        let news = self.next(message.word);
        self.tell(&news, context);
        Ok(self.standing(context))
    }
}

impl Handler<Publish> for Herald {
    type Reply = Standing;

    // A function of its own: compiled into that of all handlers, it made the ring kernel spill registers on one chip.
    #[inline(never)]
    fn handle(&mut self, message: &Publish, context: &mut Context) -> Result<Standing, Refused> {
        let news = self.next(message.word);
        self.tell(&Bulletin::of(news), context);
        Ok(self.standing(context))
    }
}

impl Handler<Provoke> for Herald {
    type Reply = Standing;

    fn handle(&mut self, message: &Provoke, context: &mut Context) -> Result<Standing, Refused> {
        let first = self.subscribers[0];
        for word in 0..message.times {
            let news = self.next(word.into());
            context.post(first, &news);
        }
        match message.ending {
            Ending::Well => Ok(self.standing(context)),
            Ending::Error => Err(Refused { subscribers: self.count() }),
            Ending::Panic => panic!("the herald was told to panic"),
        }
    }
}

actor!(Herald { kind: 6, error: Refused, messages: { #[outlined] 0: Subscribe, #[outlined] 1: Unsubscribe, #[outlined] 2: Announce, #[outlined] 3: Publish, #[outlined] 4: Provoke } });
