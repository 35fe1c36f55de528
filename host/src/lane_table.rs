//! Who holds which lane of an engine.
//!
//! A lane whose client is gone while some of its requests are unanswered waits until they are: a new holder must never find a
//! reply that was meant for another one. Nor is a lane given away while somebody still reads its outbox: the words by which its reader
//! gives room back have one writer.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::control::Control;
use crate::error::EngineError;
use crate::lane::Lane;
use crate::port::Pending;

#[derive(Debug)]
enum Holder {
    Nobody,
    Client,
    /// The client is gone; these requests of its are unanswered, oldest first.
    Gone(VecDeque<Pending>),
}

/// The lanes of an engine, all mapped before the first launch.
#[derive(Debug)]
pub(crate) struct LaneTable {
    lanes: Vec<Arc<Lane>>,
    holders: Mutex<Vec<Holder>>,
}

impl LaneTable {
    pub(crate) fn new(lanes: Vec<Lane>) -> Self {
        let holders = Mutex::new(lanes.iter().map(|_| Holder::Nobody).collect());
        Self { lanes: lanes.into_iter().map(Arc::new).collect(), holders }
    }

    pub(crate) fn lanes(&self) -> &[Arc<Lane>] {
        &self.lanes
    }

    /// Takes a free lane and lets the gates look at it.
    ///
    /// # Errors
    /// [`EngineError::NoFreeLane`] says what keeps the lanes.
    pub(crate) fn take(&self, control: &Control) -> Result<Arc<Lane>, EngineError> {
        let mut holders = self.holders();
        self.reclaim_in(&mut holders, control);
        let Some(free) = holders.iter().position(|holder| matches!(holder, Holder::Nobody)) else {
            let waiting = holders.iter().filter(|holder| matches!(holder, Holder::Gone(_))).count() as u32;
            let lanes = holders.len() as u32;
            return Err(EngineError::NoFreeLane { lanes, held: lanes - waiting, waiting });
        };
        holders[free] = Holder::Client;
        let lane = Arc::clone(&self.lanes[free]);
        lane.process().store(std::process::id(), Ordering::Relaxed);
        control.set_lane(free as u32, true);
        Ok(lane)
    }

    /// Takes a lane back from a client that leaves `pending` unanswered.
    pub(crate) fn give_back(&self, lane: &Lane, pending: VecDeque<Pending>, control: &Control) {
        let mut holders = self.holders();
        holders[lane.number() as usize] = Holder::Gone(pending);
        self.reclaim_in(&mut holders, control);
    }

    /// Frees lanes whose last replies have come.
    pub(crate) fn reclaim(&self, control: &Control) {
        self.reclaim_in(&mut self.holders(), control);
    }

    fn reclaim_in(&self, holders: &mut [Holder], control: &Control) {
        for (holder, lane) in holders.iter_mut().zip(&self.lanes) {
            let Holder::Gone(pending) = holder else { continue };
            while pending.front().is_some_and(|pending| pending.is_answered(lane)) {
                pending.pop_front();
            }
            if pending.is_empty() && !lane.has_outbox() {
                *holder = Holder::Nobody;
                control.set_lane(lane.number(), false);
                lane.freed().store(lane.published().load(Ordering::Relaxed), Ordering::Relaxed);
                lane.process().store(0, Ordering::Relaxed);
            }
        }
    }

    fn holders(&self) -> MutexGuard<'_, Vec<Holder>> {
        // A holder is replaced as a whole: nothing half-written remains after a panic.
        self.holders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::port::Port;
    use tourbillon_shared::header::{Flags, Header};
    use tourbillon_shared::position::RingShape;
    use tourbillon_shared::ring::write_slot;

    fn table(lanes: u32) -> (LaneTable, Control) {
        let shape = RingShape::new(16).unwrap();
        let lanes = (0..lanes).map(|number| Lane::create(number, shape, 0, 0, 5).unwrap()).collect();
        (LaneTable::new(lanes), Control::create().unwrap())
    }

    #[test]
    fn lanes_run_out_and_come_back() {
        let (table, control) = table(2);
        let first = table.take(&control).unwrap();
        let second = table.take(&control).unwrap();
        assert_ne!(first.number(), second.number());
        assert!(matches!(table.take(&control), Err(EngineError::NoFreeLane { lanes: 2, held: 2, waiting: 0 })));
        table.give_back(&first, VecDeque::new(), &control);
        assert_eq!(table.take(&control).unwrap().number(), first.number());
    }

    #[test]
    fn a_lane_whose_outbox_is_open_waits_for_its_reader() {
        let (table, control) = table(1);
        let lane = table.take(&control).unwrap();
        assert!(lane.take_outbox() && !lane.take_outbox());
        table.give_back(&lane, VecDeque::new(), &control);
        assert!(matches!(table.take(&control), Err(EngineError::NoFreeLane { lanes: 1, held: 0, waiting: 1 })));
        lane.give_outbox_back();
        assert_eq!(table.take(&control).unwrap().number(), lane.number());
    }

    #[test]
    fn a_lane_with_unanswered_requests_waits_for_their_replies() {
        let (table, control) = table(1);
        let lane = table.take(&control).unwrap();
        let mut port = Port::new(Arc::clone(&lane), None);
        port.begin_run(1);
        port.publish(Header { kind: 1, flags: Flags::new(1, 0), ..Header::default() }, &[]);
        table.give_back(&lane, port.take_pending(), &control);
        assert!(matches!(table.take(&control), Err(EngineError::NoFreeLane { lanes: 1, held: 0, waiting: 1 })));
        write_slot(&lane.replies(), lane.shape(), 0, &[0; 12]);
        let again = table.take(&control).unwrap();
        let port = Port::new(again, None);
        assert_eq!(port.lane().freed().load(Ordering::Relaxed), 1);
        assert!(port.has_room(16));
    }
}
