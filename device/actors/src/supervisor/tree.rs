//! From what is wanted of the children to what they are: one step at a time.

use tourbillon_device::shared::{hlc, mutant};
use tourbillon_device::{
    Child, ChildEvent, ChildOrder, Context, Happened, ParentOrder, Plain, PoolError, Refusal, Verdict,
};

use super::{CHILDREN_MAX, News, Standing, Strategy, Supervisor, SupervisorError};

/// What follows when all children are what they should be.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
pub(super) enum Then {
    /// Nothing.
    Nothing = 0,
    /// The parent's order is carried out.
    Done = 1,
    /// The parent is to hear that there were too many failures.
    Escalate = 2,
    /// The parent's order to stop is carried out.
    Stopped = 3,
}

/// The set of one place.
fn bit(place: usize) -> u64 {
    1u64.wrapping_shl(place as u32)
}

impl Supervisor {
    /// The child at a place that is taken.
    pub(super) fn child_at(&self, place: usize, context: &Context) -> Result<Child, PoolError> {
        Ok(self.children.get(context, place as u32)?.copied().unwrap_or_default())
    }

    /// The places of the children in the order in which they were started.
    fn places(&self) -> impl DoubleEndedIterator<Item = usize> + use<> {
        self.order.into_iter().take(self.count.into()).map(usize::from)
    }

    /// The place of a child.
    pub(super) fn place_of(&self, child: &Child, context: &Context) -> Result<Option<usize>, PoolError> {
        for place in self.places() {
            if self.child_at(place, context)?.is_same(child) {
                return Ok(Some(place));
            }
        }
        Ok(None)
    }

    /// Takes a child in behind all others, to be started.
    pub(super) fn add(&mut self, child: Child, context: &mut Context) -> Result<(), SupervisorError> {
        if let Some(place) = self.place_of(&child, context)? {
            if self.wanted & bit(place) != 0 {
                return Err(SupervisorError::AlreadyIts);
            }
            // One that is being stopped is started again when it is; one that was stopped begins as a new one.
            self.leave_order(place);
            self.enter(place, child, context)?;
            return Ok(());
        }
        let place = (!self.used).trailing_zeros() as usize;
        if place >= CHILDREN_MAX {
            return Err(SupervisorError::TooManyChildren);
        }
        self.enter(place, child, context)
    }

    fn enter(&mut self, place: usize, child: Child, context: &mut Context) -> Result<(), SupervisorError> {
        if place as u32 >= self.children.len() {
            self.children.push(context, child)?;
        } else if let Some(at) = self.children.get_mut(context, place as u32)? {
            *at = child;
        }
        self.used |= bit(place);
        if self.is_stopping() {
            self.kept |= bit(place);
        } else {
            // What it was comes to an end first, and so does how it was watched.
            self.ending |= self.begun() & bit(place);
            self.wanted |= bit(place);
            self.kept &= !bit(place);
        }
        self.order[usize::from(self.count)] = place as u8;
        self.count += 1;
        if self.refused.is_same(&child) {
            self.refusal = 0;
        }
        Ok(())
    }

    /// Whether the parent wants it to stop: what it is asked to start meanwhile is remembered, and starts when it does.
    fn is_stopping(&self) -> bool {
        self.then == Then::Stopped && !mutant!("children_start_while_all_stop")
    }

    /// Children that run, or are going to as soon as they answer.
    fn begun(&self) -> u64 {
        if mutant!("wanted_again_does_not_stop") {
            return 0;
        }
        let is_start = self.open == ParentOrder::Start as u8;
        self.live | if is_start { bit(self.open_to.into()) } else { 0 }
    }

    /// Takes a place out of the order of children.
    fn leave_order(&mut self, place: usize) {
        let mut kept = 0;
        for at in 0..usize::from(self.count) {
            if usize::from(self.order[at]) != place {
                self.order[kept] = self.order[at];
                kept += 1;
            }
        }
        self.count = kept as u8;
    }

    /// Forgets the child at a place.
    fn forget(&mut self, place: usize) {
        self.leave_order(place);
        let Self { used, live, wanted, again, failed, kept, ending, .. } = self;
        for set in [used, live, wanted, again, failed, kept, ending] {
            *set &= !bit(place);
        }
    }

    /// The child at a place is wanted no more. Whether it has failed stays: it tells of no failure until it has stopped or gone on.
    pub(super) fn let_go(&mut self, place: usize) {
        for set in [&mut self.wanted, &mut self.again, &mut self.kept] {
            *set &= !bit(place);
        }
        if self.live & bit(place) == 0 && !(self.open != 0 && usize::from(self.open_to) == place) {
            self.forget(place);
        }
    }

    /// All children are to stop, and to be remembered; as in [`let_go`](Self::let_go), with whether they have failed.
    pub(super) fn stop_all(&mut self) {
        self.kept |= self.wanted;
        (self.wanted, self.again) = (0, 0);
        if mutant!("failed_forgotten_when_all_stop") {
            self.failed = 0;
        }
    }

    /// All children that are remembered are to run; those that have not stopped yet do so first.
    pub(super) fn start_all(&mut self) {
        if self.is_stopping() {
            return;
        }
        self.ending |= self.begun() & self.kept;
        self.run_all();
    }

    /// All children that are remembered are to run, those that have not stopped yet as they are.
    fn run_all(&mut self) {
        self.wanted |= self.kept;
        self.kept = 0;
        self.noted = 0;
    }

    /// What a child is at.
    pub(super) fn standing(&self, place: usize) -> Standing {
        let is_in = |set: u64| set & bit(place) != 0;
        let is_open = self.open != 0 && usize::from(self.open_to) == place;
        match (is_in(self.live), is_in(self.wanted)) {
            (true, false) => Standing::Stopping,
            (false, true) => Standing::Starting,
            (false, false) if is_open => Standing::Stopping,
            (false, false) => Standing::Stopped,
            (true, true) if is_in(self.again | self.failed | self.ending) || is_open => Standing::Restarting,
            (true, true) => Standing::Running,
        }
    }

    /// Whether nothing is under way.
    pub(super) fn is_settled(&self) -> bool {
        self.open == 0 && self.live == self.wanted && (self.again | self.failed | self.ending) == 0
    }

    /// Takes in what a child tells.
    pub(super) fn hear(&mut self, event: &ChildEvent, context: &Context) -> Result<(), PoolError> {
        let place = event.token() as usize;
        if place >= CHILDREN_MAX || self.used & bit(place) == 0 {
            return Ok(());
        }
        let child = self.child_at(place, context)?;
        let Some(what) = event.what().filter(|_| child.key() == event.key() && child.kind() == event.kind()) else {
            return Ok(());
        };
        if what == Happened::Failed {
            self.note_failures(place, &child, event.failures(), context);
            return Ok(());
        }
        // All else answers the order that is open.
        let order = self.open;
        if order == 0 || usize::from(self.open_to) != place {
            return Ok(());
        }
        self.open = 0;
        match what {
            Happened::Started => self.live |= bit(place),
            Happened::Stopped => self.has_stopped(place),
            Happened::Refused => self.was_refused(place, &child, order, event.refusal()),
            _ => {}
        }
        Ok(())
    }

    fn has_stopped(&mut self, place: usize) {
        // What it is when it is started again it is from then on.
        for set in [&mut self.live, &mut self.again, &mut self.failed, &mut self.ending] {
            *set &= !bit(place);
        }
        if (self.wanted | self.kept) & bit(place) == 0 {
            self.forget(place);
        }
    }

    fn was_refused(&mut self, place: usize, child: &Child, order: u8, why: Option<Refusal>) {
        match why {
            // It is tried again: what is wanted of the child has not changed.
            Some(Refusal::NoRoom | Refusal::Busy) => {
                if order == ParentOrder::Restart as u8 {
                    self.again |= bit(place) & self.wanted;
                }
                if order == ParentOrder::GoOn as u8 {
                    self.failed |= bit(place);
                }
                if order == ParentOrder::Start as u8 {
                    self.ending &= !bit(place);
                }
                if (self.live | self.wanted | self.kept) & bit(place) == 0 {
                    self.forget(place);
                }
            }
            // That is a failure, of which it tells by itself.
            Some(Refusal::HandlerFailed) if order == ParentOrder::Restart as u8 => {}
            _ => {
                (self.refused, self.refusal) = (*child, why.map_or(0, |why| why as u8));
                self.forget(place);
            }
        }
    }

    /// Acts on failures of the child at a place.
    fn note_failures(&mut self, place: usize, child: &Child, failures: u32, context: &Context) {
        self.failures = self.failures.saturating_add(failures);
        let stops_anyway = self.wanted & !self.ending & bit(place) == 0;
        // Also then, for perhaps it is to begin anew instead.
        if !(stops_anyway && mutant!("failed_forgotten_when_one_stops")) {
            self.failed |= bit(place);
        }
        if stops_anyway {
            return;
        }
        if self.are_too_many(failures, hlc::microseconds(context.hlc())) {
            self.escalations = self.escalations.saturating_add(1);
            self.stop_all();
            self.noted = 0;
            self.then = Then::Escalate;
            return;
        }
        if child.is_supervisor() {
            // It has stopped its children, and waits.
            self.again |= bit(place);
        }
        let others = match self.strategy {
            Strategy::OneForOne => 0,
            Strategy::OneForAll => self.used,
            Strategy::RestForOne => self.later_than(place),
        };
        self.again |= others & self.live & self.wanted & !bit(place);
    }

    /// The children that were started after the one at a place.
    fn later_than(&self, place: usize) -> u64 {
        let behind = self.places().skip_while(|at| *at != place).skip(1);
        let later = behind.map(bit).fold(0, |all, one| all | one);
        if mutant!("rest_for_one_takes_the_earlier") { self.used & !later } else { later }
    }

    /// Notes failures at a time, and says whether more than may be are in the window that ends there.
    fn are_too_many(&mut self, failures: u32, now_us: u64) -> bool {
        let mut kept = 0;
        for at in 0..usize::from(self.noted) {
            let then_us = self.failures_us[at];
            if now_us.saturating_sub(then_us) < self.window_us || mutant!("window_never_ends") {
                self.failures_us[kept] = then_us;
                kept += 1;
            }
        }
        let most = usize::from(self.intensity);
        let sum = kept + failures as usize;
        let is_over = if mutant!("intensity_one_less") { sum >= most } else { sum > most };
        while kept < sum.min(most) {
            self.failures_us[kept] = now_us;
            kept += 1;
        }
        self.noted = kept as u8;
        is_over
    }

    /// Takes in what the parent orders; false where it is not going to be a child, for it has children.
    pub(super) fn take_order(&mut self, order: &ChildOrder) -> bool {
        match order.order() {
            Some(ParentOrder::Start) => {
                let has_children = self.live | self.wanted != 0 || self.open != 0;
                if has_children && !mutant!("circles_are_closed") {
                    return false;
                }
                self.start_all();
            }
            Some(ParentOrder::Restart) => {
                self.run_all();
                self.again |= self.live & self.wanted;
            }
            Some(ParentOrder::Stop) => {
                self.stop_all();
                self.then = Then::Stopped;
                return true;
            }
            _ => return true,
        }
        self.then = Then::Done;
        true
    }

    /// Sends the next order that brings the children to what they should be; or says, when there is none, what follows.
    pub(super) fn step(&mut self, context: &mut Context) -> Result<Verdict, SupervisorError> {
        if self.open != 0 {
            return Ok(Verdict::Nothing);
        }
        let stops = self.live & (!self.wanted | self.ending);
        let news = (self.again | self.failed) & self.live;
        let starts = self.wanted & !self.live;
        let in_set = |set: u64| move |place: &usize| set & bit(*place) != 0;
        let (order, place) = if let Some(place) = self.last_started(stops) {
            (ParentOrder::Stop, place)
        } else if let Some(place) = self.places().find(in_set(news)) {
            let order = if self.again & bit(place) != 0 { ParentOrder::Restart } else { ParentOrder::GoOn };
            (order, place)
        } else if let Some(place) = self.places().find(in_set(starts)) {
            (ParentOrder::Start, place)
        } else {
            let then = core::mem::replace(&mut self.then, Then::Nothing);
            return Ok(match then {
                Then::Nothing => Verdict::Nothing,
                Then::Done | Then::Stopped => Verdict::Done,
                Then::Escalate => Verdict::Escalate,
            });
        };
        let (child, token) = (self.child_at(place, context)?, place as u32);
        match order {
            ParentOrder::Stop => context.stop_child::<News>(&child, token),
            ParentOrder::Restart => context.restart_child::<News>(&child, token),
            ParentOrder::GoOn => context.let_child_go_on::<News>(&child, token),
            ParentOrder::Start => context.start_child::<News>(&child, token),
        }
        // One that failed goes on when it has begun anew.
        match order {
            ParentOrder::Restart => self.again &= !bit(place),
            ParentOrder::GoOn => self.failed &= !bit(place),
            ParentOrder::Start | ParentOrder::Stop => {}
        }
        (self.open, self.open_to) = (order as u8, place as u8);
        Ok(Verdict::Nothing)
    }

    /// Of a set of children the one that was started last.
    fn last_started(&self, set: u64) -> Option<usize> {
        let is_in = |place: &usize| set & bit(*place) != 0;
        if mutant!("stops_in_order_of_start") { self.places().find(is_in) } else { self.places().rev().find(is_in) }
    }
}
