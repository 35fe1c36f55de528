//! Looking for a reply in the poll that sent its request, instead of sleeping until the reaper wakes the task.
//!
//! A wake-up costs several times what a GPU needs for its answer. A program with few requests at a time may rather spend its
//! executor's thread for some microseconds, and says so ([`GatewayBuilder::spin`](super::GatewayBuilder::spin)).

use std::sync::Arc;
use std::time::{Duration, Instant};

use tourbillon_shared::mutant;

use super::lane::Wakes;
use super::{Copies, Core, LOOKS_PER_HOLD, Place};
use crate::lane::{Lane, is_answered};

/// The longest that a poll may look: past it a thread would be missed more than a wake-up costs.
pub const SPIN_MAX: Duration = Duration::from_millis(1);
/// Looks between two readings of the clock.
const LOOKS_PER_CHECK: u32 = 32;

/// Where the reply to a request will be.
#[derive(Debug)]
pub(super) struct Expected {
    pub(super) lane: Arc<Lane>,
    pub(super) position: u64,
    pub(super) span: u32,
}

impl Core {
    /// Looks for the reply to the request in `place`, which has just been begun, for as long as the gateway was told; whatever has come
    /// by then is taken. Without the lane's lock while it looks. Whether it looked at all: then the task must be polled once more, for
    /// nobody wakes it.
    pub(super) fn spin(&self, place: Place) -> bool {
        let inner = &*self.inner;
        if inner.spin.is_zero() {
            return false;
        }
        let lane = &inner.lanes[place.lane as usize];
        let mut wakes = Wakes::default();
        let expected = lane.lock().expect(place.waiter, &mut wakes);
        wakes.wake_all();
        let Some(expected) = expected else { return false };
        let Expected { lane: memory, position, span } = expected;
        let (replies, shape, began) = (memory.replies(), memory.shape(), Instant::now());
        let mut looks = 0u32;
        while !is_answered(&replies, shape, position, span) {
            looks = looks.wrapping_add(1);
            if looks.is_multiple_of(LOOKS_PER_CHECK) && began.elapsed() >= inner.spin {
                return !mutant!("gateway_spin_forgets_the_task");
            }
            std::hint::spin_loop();
        }
        let mut copies = Copies::default();
        {
            let mut state = lane.lock();
            if !state.is_closed() {
                state.look(LOOKS_PER_HOLD, &mut copies, &mut wakes);
            }
        }
        inner.copy(lane, &mut copies, &mut wakes);
        wakes.wake_all();
        true
    }
}
