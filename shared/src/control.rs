//! The words by which the host steers the ring kernel.
//!
//! One 16-byte chunk in mapped host memory, written by the host alone: words first, the epoch last with Release (pairs with
//! the device's single-copy-atomic load of the chunk). One gate warp polls it and mirrors it in device memory; every
//! loop of the device looks at the mirror.

use bytemuck::{Pod, Zeroable};

use crate::lane::LINE_BYTES;
use crate::slot::Chunk;

/// What the ring kernel shall do.
///
/// ```text
/// Resident -> Active <-> Paused
///    |          |  \       |
///    |          v   \      |
///    |       Draining \    |
///    |          |      \   |
///    +----------+-------+--+--> Stopped
/// ```
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Mode {
    /// Launched; nothing is taken.
    Resident = 1,
    /// Messages are taken and handled.
    Active = 2,
    /// Nothing is taken and nothing is handled; nothing is lost.
    Paused = 3,
    /// As active, while the host accepts nothing new.
    Draining = 4,
    /// The kernel spills and exits.
    Stopped = 5,
}

impl Mode {
    /// The mode of a control word.
    #[inline(always)]
    pub const fn from_word(word: u32) -> Option<Self> {
        Some(match word {
            1 => Self::Resident,
            2 => Self::Active,
            3 => Self::Paused,
            4 => Self::Draining,
            5 => Self::Stopped,
            _ => return None,
        })
    }

    /// Whether gates take and shards handle in this mode.
    #[inline(always)]
    pub const fn serves(self) -> bool {
        matches!(self, Self::Active | Self::Draining)
    }

    /// Whether the host may go from `self` to `next`.
    pub const fn may_become(self, next: Self) -> bool {
        match (self, next) {
            (Self::Stopped, _) => false,
            (_, Self::Stopped) => true,
            (Self::Resident | Self::Paused, Self::Active) => true,
            (Self::Active, Self::Paused | Self::Draining) => true,
            (Self::Paused, Self::Draining) => true,
            _ => false,
        }
    }
}

impl core::fmt::Display for Mode {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Resident => "resident",
            Self::Active => "active",
            Self::Paused => "paused",
            Self::Draining => "draining",
            Self::Stopped => "stopped",
        })
    }
}

/// How gates take messages from lanes.
#[repr(u32)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Processing {
    /// One at a time while they come one at a time, in windows behind a backlog.
    #[default]
    Adaptive = 0,
    /// One at a time, whatever stands behind it.
    Continuous = 1,
    /// In windows: a message waits until its lane has a full one, or for as long as it was told to wait at most.
    Batch = 2,
}

impl Processing {
    /// The way of a number; [`Adaptive`](Self::Adaptive) for one that is none.
    #[inline(always)]
    pub const fn from_word(word: u32) -> Self {
        match word {
            1 => Self::Continuous,
            2 => Self::Batch,
            _ => Self::Adaptive,
        }
    }
}

/// Longest wait of [`Processing::Batch`], microseconds: what its bits of the command have room for.
pub const BATCH_WAIT_US_MAX: u32 = (1 << 20) - 1;

/// What the control chunk says: `{mode, lanes low, lanes high, epoch}`.
///
/// The first word is the mode in bits 0 to 7, the way of [`Processing`] in bits 8 to 11, and the longest wait for a full window in
/// microseconds in bits 12 to 31.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Command {
    /// The mode as a number; one that is no [`Mode`] is taken as [`Mode::Resident`].
    pub mode: u32,
    /// How gates take messages.
    pub processing: Processing,
    /// How long a message waits for others at most, microseconds, up to [`BATCH_WAIT_US_MAX`]: with [`Processing::Batch`] any, with
    /// [`Processing::Adaptive`] what comes behind several full windows of its lane.
    pub batch_wait_us: u32,
    /// One bit for each lane that a client holds.
    pub lanes: u64,
    /// Counts the changes; 0 before the first.
    pub epoch: u32,
}

impl Command {
    /// A command of a mode, without lanes and of epoch 0, that leaves all else as it is by default.
    pub const fn of(mode: Mode) -> Self {
        Self { mode: mode as u32, processing: Processing::Adaptive, batch_wait_us: 0, lanes: 0, epoch: 0 }
    }

    /// The command as a chunk; the epoch is its tag.
    #[inline(always)]
    pub const fn encode(self) -> Chunk {
        let first = self.mode & 0xff | (self.processing as u32) << 8 | self.batch_wait_us << 12;
        Chunk::new([first, self.lanes as u32, (self.lanes >> 32) as u32], self.epoch)
    }

    /// The command of a chunk.
    #[inline(always)]
    pub const fn decode(chunk: Chunk) -> Self {
        let w = chunk.words;
        Self {
            mode: w[0] & 0xff,
            processing: Processing::from_word((w[0] >> 8) & 0xf),
            batch_wait_us: w[0] >> 12,
            lanes: w[1] as u64 | (w[2] as u64) << 32,
            epoch: w[3],
        }
    }
}

/// The control block in mapped host memory.
#[repr(C, align(128))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct ControlBlock {
    /// A [`Command`].
    pub command: Chunk,
    /// Host clock (Unix) minus device clock, nanoseconds, in words 0 and 1; it never decreases while an engine lives, so that
    /// a timestamp restored with it is never too early. The tag counts its changes.
    pub clock_offset: Chunk,
    /// Zero.
    pub reserved: [u32; 24],
}

const _: () = {
    use core::mem::offset_of;
    assert!(size_of::<ControlBlock>() == LINE_BYTES && align_of::<ControlBlock>() == LINE_BYTES);
    assert!(offset_of!(ControlBlock, clock_offset) == 16);
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_round_trip() {
        for processing in [Processing::Adaptive, Processing::Continuous, Processing::Batch] {
            for batch_wait_us in [0, 20, BATCH_WAIT_US_MAX] {
                let lanes = 0x8000_0000_0000_0001;
                let command = Command { mode: 2, processing, batch_wait_us, lanes, epoch: 9 };
                assert_eq!(Command::decode(command.encode()), command);
                assert_eq!(Processing::from_word(processing as u32), processing);
            }
        }
        assert_eq!(Processing::from_word(3), Processing::Adaptive);
    }

    #[test]
    fn stopped_is_final_and_reachable_from_everywhere() {
        for word in 1..=5 {
            let mode = Mode::from_word(word).unwrap();
            assert_eq!(mode as u32, word);
            assert!(!Mode::Stopped.may_become(mode));
            assert_eq!(mode.may_become(Mode::Stopped), mode != Mode::Stopped);
        }
        assert_eq!(Mode::from_word(0), None);
        assert!(!Mode::Resident.may_become(Mode::Paused));
    }
}
