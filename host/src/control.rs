//! The control block: how the host steers the ring kernel. The words are in [`tourbillon_shared::control`].

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, PoisonError};

use tourbillon_device::arch::native::store_chunk;
use tourbillon_shared::control::{Command, ControlBlock, Mode, Processing};
use tourbillon_shared::mutant;
use tourbillon_shared::slot::Chunk;

use crate::error::EngineError;
use crate::shared_memory::Mapping;

/// The control block and the only hand that writes it.
#[derive(Debug)]
pub(crate) struct Control {
    mapping: Mapping,
    last: Mutex<Last>,
    /// The clock offset last stated, for readers without the lock.
    clock_offset_ns: AtomicI64,
}

#[derive(Clone, Copy, Debug)]
struct Last {
    command: Command,
    clock: Option<i64>,
    clock_changes: u32,
}

/// Epochs that are no count: 0 stands before the first command, `u32::MAX` for a warp that has left.
const EPOCHS_RESERVED: [u32; 2] = [0, u32::MAX];

impl Control {
    /// A control block that commands [`Mode::Resident`] and no lanes.
    ///
    /// # Errors
    /// [`EngineError::Io`] when there is no shared memory for it.
    pub(crate) fn create() -> Result<Self, EngineError> {
        let mapping = Mapping::shared("tourbillon-control", size_of::<ControlBlock>())
            .map_err(|source| EngineError::Io { what: "mapping the control block", source })?;
        let command = Command::of(Mode::Resident);
        let last = Mutex::new(Last { command, clock: None, clock_changes: 0 });
        let control = Self { mapping, last, clock_offset_ns: AtomicI64::new(0) };
        control.set_mode(Mode::Resident);
        Ok(control)
    }

    pub(crate) fn mapping(&self) -> &Mapping {
        &self.mapping
    }

    /// Commands a mode; returns the epoch that a warp has obeyed when it knows of it.
    pub(crate) fn set_mode(&self, mode: Mode) -> u32 {
        self.change(|command| command.mode = mode as u32)
    }

    /// Commands a way of taking messages; returns the epoch as [`set_mode`](Self::set_mode) does.
    pub(crate) fn set_processing(&self, processing: Processing, batch_wait_us: u32) -> u32 {
        self.change(|command| (command.processing, command.batch_wait_us) = (processing, batch_wait_us))
    }

    /// The way of taking messages that was commanded last.
    pub(crate) fn processing(&self) -> (Processing, u32) {
        let command = self.lock().command;
        (command.processing, command.batch_wait_us)
    }

    /// Tells whether a client holds a lane, so that a gate looks at it.
    pub(crate) fn set_lane(&self, lane: u32, is_held: bool) -> u32 {
        let bit = 1u64 << lane;
        self.change(|command| if is_held { command.lanes |= bit } else { command.lanes &= !bit })
    }

    /// States host clock minus device clock, in nanoseconds, unless that is less than what was stated before. It may be below zero, but is
    /// never stated as 0, by which the device knows that nothing was stated yet: a nanosecond more does no harm.
    pub(crate) fn advance_clock_offset(&self, offset_ns: i64) {
        let offset_ns = if offset_ns == 0 && !mutant!("clocks_that_agree_unstated") { 1 } else { offset_ns };
        let mut last = self.lock();
        if last.clock.is_some_and(|stated| stated >= offset_ns) {
            return;
        }
        last.clock = Some(offset_ns);
        last.clock_changes = last.clock_changes.wrapping_add(1).max(1);
        let words = offset_ns.cast_unsigned();
        let chunk = Chunk::new([words as u32, (words >> 32) as u32, 0], last.clock_changes);
        // SAFETY: the mapping is a control block that lives as long as `self`. The mutex makes this the one writer.
        unsafe { store_chunk(&raw mut (*self.block()).clock_offset, chunk) };
        self.clock_offset_ns.store(offset_ns, Ordering::Relaxed);
    }

    /// The clock offset last stated, nanoseconds.
    pub(crate) fn clock_offset_ns(&self) -> i64 {
        self.clock_offset_ns.load(Ordering::Relaxed)
    }

    /// The command as the device sees it.
    #[cfg(test)]
    fn command(&self) -> Command {
        // SAFETY: the mapping is a control block that lives as long as `self`.
        Command::decode(unsafe { tourbillon_device::arch::native::load_chunk(&raw const (*self.block()).command) })
    }

    fn change(&self, change: impl FnOnce(&mut Command)) -> u32 {
        let mut last = self.lock();
        change(&mut last.command);
        last.command.epoch = last.command.epoch.wrapping_add(1);
        while EPOCHS_RESERVED.contains(&last.command.epoch) {
            last.command.epoch = last.command.epoch.wrapping_add(1);
        }
        // SAFETY: the mapping is a control block that lives as long as `self`. The mutex makes this the one writer; words
        // first, then the epoch with Release, which pairs with the device's load of the whole chunk.
        unsafe { store_chunk(&raw mut (*self.block()).command, last.command.encode()) };
        last.command.epoch
    }

    fn block(&self) -> *mut ControlBlock {
        self.mapping.as_ptr().cast()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Last> {
        // Every write below the lock is complete before anything can panic.
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a warp that has obeyed `obeyed` has obeyed `epoch`; epochs may wrap.
pub(crate) fn is_obeyed(obeyed: u64, epoch: u32) -> bool {
    obeyed as u32 == u32::MAX || (obeyed as u32).wrapping_sub(epoch) < 1 << 31
}

#[cfg(test)]
mod tests {
    use super::*;
    use tourbillon_device::arch::native::load_chunk;

    #[test]
    fn commands_follow_each_other() {
        let control = Control::create().unwrap();
        assert_eq!(control.command(), Command { epoch: 1, ..Command::of(Mode::Resident) });
        assert_eq!(control.set_lane(63, true), 2);
        assert_eq!(control.set_mode(Mode::Active), 3);
        assert_eq!(control.command(), Command { lanes: 1 << 63, epoch: 3, ..Command::of(Mode::Active) });
        assert_eq!(control.set_lane(63, false), 4);
        assert_eq!(control.command().lanes, 0);
    }

    #[test]
    fn reserved_epochs_are_skipped() {
        let control = Control::create().unwrap();
        control.lock().command.epoch = u32::MAX - 1;
        assert_eq!(control.set_mode(Mode::Active), 1);
    }

    #[test]
    fn obedience_survives_the_wrap() {
        assert!(is_obeyed(7, 7) && is_obeyed(8, 7) && !is_obeyed(6, 7));
        assert!(is_obeyed(1, u32::MAX - 1) && !is_obeyed(u64::from(u32::MAX) - 1, 1));
        assert!(is_obeyed(u64::from(u32::MAX), 7), "a warp that has left obeys everything");
    }

    #[test]
    fn the_clock_never_goes_back() {
        let control = Control::create().unwrap();
        let offset = || {
            // SAFETY: the control block lives in this test.
            let words = unsafe { load_chunk(&raw const (*control.block()).clock_offset) }.words;
            (u64::from(words[0]) | u64::from(words[1]) << 32, words[3])
        };
        assert_eq!(offset(), (0, 0));
        control.advance_clock_offset(5 << 32);
        assert_eq!(offset(), (5 << 32, 1));
        control.advance_clock_offset(4 << 32);
        assert_eq!(offset(), (5 << 32, 1));
        control.advance_clock_offset((5 << 32) + 1);
        assert_eq!((offset(), control.clock_offset_ns()), (((5 << 32) + 1, 2), (5 << 32) + 1));
    }

    #[test]
    fn the_clock_may_be_ahead_of_the_hosts_and_is_never_stated_as_unknown() {
        let control = Control::create().unwrap();
        let offset = || {
            // SAFETY: the control block lives in this test.
            let words = unsafe { load_chunk(&raw const (*control.block()).clock_offset) }.words;
            (u64::from(words[0]) | u64::from(words[1]) << 32, words[3])
        };
        control.advance_clock_offset(-157_000);
        assert_eq!((offset(), control.clock_offset_ns()), ((157_000u64.wrapping_neg(), 1), -157_000));
        control.advance_clock_offset(-200_000);
        assert_eq!(offset(), (157_000u64.wrapping_neg(), 1));
        control.advance_clock_offset(0);
        assert_eq!((offset(), control.clock_offset_ns()), ((1, 2), 1));
    }
}
