//! The requests of one lane that are published and whose replies have not been taken.
//!
//! They may be of any span, and their replies may come in any order. A reply is taken when it has come, so that one slow
//! actor holds up nobody's reply; slots are freed in the order of the ring, so it does hold up, once the ring has gone
//! round, those who publish in this lane. A request that nobody waits for any longer stays until its reply has come: only
//! then its slots may be used again, or the reply would be taken for that of another request.

use std::collections::VecDeque;

use tourbillon_shared::mutant;

use crate::arena::Block;
use crate::lane_end::LaneEnd;
use crate::port::Pending;

/// Whose a reply is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whose {
    /// Of the ask in this place.
    Waiter(u32),
    /// Of an ask that was given up.
    Nobody,
    /// A tell's acknowledgement.
    Tell,
}

/// One request.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) position: u64,
    pub(super) span: u32,
    pub(super) whose: Whose,
    /// Its block of the arena, if it has one, which is used again when its reply has come and was read, if anybody waits for it.
    pub(super) block: Option<Block>,
    /// Its reply was taken.
    is_landed: bool,
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Flights {
    /// In the order of their positions; the first has not landed.
    flights: VecDeque<Flight>,
    /// Number of the first flight.
    first: u64,
    /// Number of the flight that is looked at next; not below `first`.
    cursor: u64,
    /// Flights that have landed behind one that has not.
    landed: usize,
}

impl Flights {
    /// None yet, in a ring of `capacity` slots: as many as there can be are made room for.
    pub(super) fn new(capacity: u32) -> Self {
        Self { flights: VecDeque::with_capacity(capacity as usize), first: 0, cursor: 0, landed: 0 }
    }

    /// Flights that have not landed.
    pub(super) fn in_flight(&self) -> usize {
        self.flights.len() - self.landed
    }

    /// Flights that a look has to go through, landed ones in between included.
    pub(super) fn length(&self) -> usize {
        self.flights.len()
    }

    /// Takes note of a request published at `position`; its number.
    pub(super) fn push(&mut self, position: u64, span: u32, whose: Whose, block: Option<Block>) -> u64 {
        self.flights.push_back(Flight { position, span, whose, block, is_landed: false });
        self.first + self.flights.len() as u64 - 1
    }

    /// Position and span of the flight of this number.
    pub(super) fn place(&self, number: u64) -> Option<(u64, u32)> {
        let flight = self.flights.get(number.wrapping_sub(self.first) as usize)?;
        Some((flight.position, flight.span))
    }

    /// Nobody waits for the flight of this number any longer. Its block stays with it; where that is, for seeded faults.
    pub(super) fn abandon(&mut self, number: u64) -> Option<&mut Option<Block>> {
        let flight = self.flights.get_mut(number.wrapping_sub(self.first) as usize)?;
        flight.whose = Whose::Nobody;
        if mutant!("gateway_slot_freed_early") && !flight.is_landed {
            flight.is_landed = true;
            self.landed += 1;
        }
        Some(&mut flight.block)
    }

    /// Looks at up to `most` flights, going on where the last look ended, and lets `land` take those whose replies have
    /// come; `land` says whether it has. Then frees their slots. How many have landed.
    pub(super) fn look(
        &mut self,
        end: &mut LaneEnd,
        most: usize,
        mut land: impl FnMut(&mut LaneEnd, &mut Flight) -> bool,
    ) -> usize {
        let length = self.flights.len();
        let mut index = (self.cursor - self.first) as usize;
        let mut count = 0;
        for _ in 0..most.min(length) {
            if index >= length {
                index = 0;
            }
            let flight = &mut self.flights[index];
            if !flight.is_landed && land(end, flight) {
                flight.is_landed = true;
                count += 1;
            }
            index += 1;
        }
        self.landed += count;
        let looked = self.first + index as u64;
        while self.flights.front().is_some_and(|flight| flight.is_landed) {
            self.flights.pop_front();
            self.first += 1;
            self.landed -= 1;
        }
        self.cursor = looked.max(self.first);
        end.free_to(self.flights.front().map_or(end.tail(), |flight| flight.position));
        count
    }

    /// Forgets all flights, because no reply will be taken any longer; what is unanswered, for whoever watches the lane from now on.
    /// `end` is called with each that has not landed.
    pub(super) fn clear(&mut self, mut end: impl FnMut(&Flight)) -> VecDeque<Pending> {
        let pending = self.flights.iter().filter(|flight| !flight.is_landed).map(|flight| {
            end(flight);
            Pending::new(flight.position, flight.span, flight.whose == Whose::Tell)
        });
        let pending = pending.collect();
        self.first += self.flights.len() as u64;
        self.cursor = self.first;
        self.landed = 0;
        self.flights.clear();
        pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lane_end::testing::{answer, end};
    use tourbillon_shared::header::{Flags, Header};

    /// Publishes a request and takes note of it.
    fn publish(end: &mut LaneEnd, flights: &mut Flights, span: u32, whose: Whose) -> u64 {
        let position = end.tail();
        assert!(end.has_room(span));
        end.publish(Header { kind: 1, flags: Flags::new(span, 0), ..Header::default() }, &[]);
        flights.push(position, span, whose, None);
        position
    }

    fn look(end: &mut LaneEnd, flights: &mut Flights, most: usize) -> Vec<Whose> {
        let mut landed = Vec::new();
        flights.look(end, most, |end, flight| {
            let has_come = end.is_answered(flight.position, flight.span);
            if has_come {
                landed.push(flight.whose);
            }
            has_come
        });
        landed
    }

    #[test]
    fn replies_land_in_any_order_and_slots_are_freed_in_theirs() {
        let (mut end, mut flights) = (end(16, 0), Flights::new(16));
        let spans = [3, 1, 8, 2];
        let positions: Vec<u64> =
            (0..4).map(|i| publish(&mut end, &mut flights, spans[i], Whose::Waiter(i as u32))).collect();
        assert!(look(&mut end, &mut flights, 99).is_empty());
        for i in [2, 1] {
            answer(&end, positions[i], spans[i], 0, &[]);
            assert_eq!(look(&mut end, &mut flights, 99), [Whose::Waiter(i as u32)]);
            assert!(!end.has_room(3) && end.has_room(2), "the first reply has not come");
        }
        assert_eq!((flights.in_flight(), flights.length()), (2, 4));
        answer(&end, positions[0], spans[0], 0, &[]);
        assert_eq!(look(&mut end, &mut flights, 99), [Whose::Waiter(0)]);
        assert_eq!((flights.in_flight(), flights.length()), (1, 1));
        assert!(end.has_room(14) && !end.has_room(15));
    }

    #[test]
    fn short_looks_come_to_every_flight() {
        let (mut end, mut flights) = (end(64, 0), Flights::new(64));
        let positions: Vec<u64> = (0..50).map(|i| publish(&mut end, &mut flights, 1, Whose::Waiter(i))).collect();
        for i in [49u32, 7, 30, 0, 1] {
            answer(&end, positions[i as usize], 1, 0, &[]);
            let landed: Vec<Whose> = (0..10).flat_map(|_| look(&mut end, &mut flights, 5)).collect();
            assert_eq!(landed, [Whose::Waiter(i)]);
        }
        assert_eq!(flights.in_flight(), 45);
    }

    #[test]
    fn an_abandoned_request_keeps_its_slots_until_its_reply_has_come() {
        let (mut end, mut flights) = (end(16, 0), Flights::new(16));
        let position = end.tail();
        end.publish(Header { kind: 1, flags: Flags::new(8, 0), ..Header::default() }, &[]);
        let number = flights.push(position, 8, Whose::Waiter(3), None);
        flights.abandon(number);
        look(&mut end, &mut flights, 9);
        assert!(!end.has_room(9) && end.has_room(8));
        answer(&end, position, 8, 0, &[]);
        assert_eq!(look(&mut end, &mut flights, 9), [Whose::Nobody]);
        assert!(end.has_room(16));
        flights.abandon(number);
    }

    #[test]
    fn what_is_unanswered_is_handed_over() {
        let (mut end, mut flights) = (end(16, 0), Flights::new(16));
        let first = publish(&mut end, &mut flights, 1, Whose::Tell);
        let second = publish(&mut end, &mut flights, 2, Whose::Waiter(1));
        publish(&mut end, &mut flights, 1, Whose::Nobody);
        answer(&end, second, 2, 0, &[]);
        look(&mut end, &mut flights, 9);
        let mut ended = 0;
        let pending = flights.clear(|_| ended += 1);
        assert_eq!((pending.len(), ended, flights.length()), (2, 2, 0));
        assert!(!pending[0].is_answered(end.lane()));
        answer(&end, first, 1, 0, &[]);
        assert!(pending[0].is_answered(end.lane()));
    }
}
