//! What an engine, its monitor and its clients share, and the steps of the lifecycle that all of them may take.
//!
//! # Locks
//! `steps` serialises what a user asks for; `core` is held for moments only, never while waiting for warps, so that the
//! monitor and a stop always get through. `steps` is taken before `core`.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tourbillon_device::SystemImage;
use tourbillon_device::arch::native::Doorbell;
use tourbillon_shared::control::{Mode, Processing};
use tourbillon_shared::geometry::{DeviceLayout, Geometry};
use tourbillon_shared::telemetry::WarpStats;

use crate::backend::{Machine, Purpose, mark_unusable};
use crate::choice::BackendKind;
use crate::control::{Control, is_obeyed};
use crate::error::EngineError;
use crate::keys::Names;
use crate::lane_table::LaneTable;
use crate::memory::arguments_offset;
use crate::status::Status;
use crate::telemetry::OwnPage;

/// How long a transition waits for all warps: far more than a handler should take.
pub const TRANSITION_TIME_MAX: Duration = Duration::from_secs(5);
/// How long a stop and a relaunch wait for the kernel's exit.
pub const EXIT_TIME_MAX: Duration = Duration::from_secs(5);
/// How long dropping an engine waits for the kernel's exit before it leaves the kernel behind.
pub const DROP_TIME_MAX: Duration = Duration::from_secs(1);
/// Pause between two looks at whether warps obey or the kernel has exited.
const LOOK_PERIOD: Duration = Duration::from_micros(50);

/// What only one thread at a time may use.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) machine: Box<dyn Machine>,
    /// The mode commanded; during a relaunch the one that comes back.
    pub(crate) mode: Mode,
    /// A relaunch is under way: the kernel was told to stop at that time.
    pub(crate) relaunching: Option<Instant>,
    /// The machine was released or left behind.
    pub(crate) is_closed: bool,
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) image: SystemImage,
    pub(crate) geometry: Geometry,
    pub(crate) layout: DeviceLayout,
    pub(crate) kind: BackendKind,
    pub(crate) device_name: String,
    pub(crate) doorbell: Option<Arc<Doorbell>>,
    pub(crate) status: Status,
    pub(crate) control: Control,
    pub(crate) lanes: LaneTable,
    pub(crate) page: OwnPage,
    pub(crate) names: Names,
    pub(crate) arguments: u64,
    pub(crate) launches: AtomicU64,
    /// Whether somebody serves host actors.
    pub(crate) serves_hosts: AtomicBool,
    pub(crate) steps: Mutex<()>,
    pub(crate) core: Mutex<Core>,
    /// The mode in `core`, for readers without the lock.
    mode: AtomicU32,
}

impl Shared {
    #[expect(clippy::too_many_arguments, reason = "its parts, each made by somebody else")]
    pub(crate) fn new(
        image: SystemImage,
        geometry: Geometry,
        machine: Box<dyn Machine>,
        control: Control,
        lanes: LaneTable,
        page: OwnPage,
        names: Names,
        memory: u64,
    ) -> Self {
        Self {
            image,
            geometry,
            layout: DeviceLayout::new(&geometry),
            kind: machine.kind(),
            device_name: machine.device_name().to_owned(),
            doorbell: machine.doorbell(),
            status: Status::default(),
            control,
            lanes,
            page,
            names,
            arguments: memory + arguments_offset(&geometry),
            launches: AtomicU64::new(0),
            serves_hosts: AtomicBool::new(false),
            steps: Mutex::new(()),
            core: Mutex::new(Core { machine, mode: Mode::Resident, relaunching: None, is_closed: false }),
            mode: AtomicU32::new(Mode::Resident as u32),
        }
    }

    pub(crate) fn core(&self) -> MutexGuard<'_, Core> {
        // A panic under the lock leaves at worst a step half done, which the next one takes up.
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn steps(&self) -> MutexGuard<'_, ()> {
        self.steps.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The mode commanded last.
    pub(crate) fn mode(&self) -> Mode {
        Mode::from_word(self.mode.load(Ordering::Relaxed)).unwrap_or(Mode::Stopped)
    }

    /// Warps of the engine.
    pub(crate) fn warps(&self) -> u32 {
        self.geometry.blocks * self.geometry.warps_per_block
    }

    pub(crate) fn ring(&self) {
        if let Some(doorbell) = &self.doorbell {
            doorbell.ring();
        }
    }

    /// The error of an engine that no longer serves.
    pub(crate) fn stopped(&self) -> EngineError {
        EngineError::Stopped { reason: self.status.reason().to_string() }
    }

    /// Writes down the mode and publishes the host's figures.
    pub(crate) fn note(&self, core: &mut Core, mode: Mode) {
        core.mode = mode;
        self.mode.store(mode as u32, Ordering::Relaxed);
        self.publish(core);
    }

    /// Publishes the host's figures in the telemetry page.
    pub(crate) fn publish(&self, core: &Core) {
        self.page.state(self.launches.load(Ordering::Relaxed), core.machine.copies().state, core.mode as u32);
    }

    /// Launches the kernel on the device memory as it is. It begins in the mode that the control block commands.
    pub(crate) fn launch(&self, core: &mut Core) -> Result<(), EngineError> {
        // What the last launch left of its commands must not be taken for new: warps would obey the stop again, and those
        // that departed would be counted for the new launch.
        let mirror = [0u64; 4];
        core.machine.write(self.layout.mirror, &mirror)?;
        let obeyed = vec![0u64; (self.layout.stats - self.layout.obeyed) as usize / 8];
        core.machine.write(self.layout.obeyed, &obeyed)?;
        self.page.clear_relaunch_wanted();
        core.machine.start(&self.geometry, self.arguments)?;
        self.launches.fetch_add(1, Ordering::Relaxed);
        self.publish(core);
        Ok(())
    }

    /// Goes on to `mode` and waits until every warp has obeyed. The caller holds `steps`.
    pub(crate) fn transition(&self, mode: Mode) -> Result<(), EngineError> {
        let epoch = {
            let mut core = self.settled_core()?;
            if core.mode == mode {
                return Ok(());
            }
            if !core.mode.may_become(mode) {
                return Err(EngineError::NoTransition { from: core.mode, to: mode });
            }
            let epoch = self.control.set_mode(mode);
            self.note(&mut core, mode);
            epoch
        };
        self.ring();
        self.wait_obeyed(epoch, mode)
    }

    /// Commands a way of taking messages and waits until every warp has obeyed. The caller holds `steps`.
    pub(crate) fn steer(&self, processing: Processing, batch_wait_us: u32) -> Result<(), EngineError> {
        let (epoch, mode) = {
            let core = self.settled_core()?;
            (self.control.set_processing(processing, batch_wait_us), core.mode)
        };
        self.ring();
        self.wait_obeyed(epoch, mode)
    }

    /// The core when no relaunch is under way and the kernel should run.
    fn settled_core(&self) -> Result<MutexGuard<'_, Core>, EngineError> {
        let began = Instant::now();
        loop {
            let mut core = self.core();
            if self.status.is_ended() || core.mode == Mode::Stopped {
                return Err(self.stopped());
            }
            if core.relaunching.is_none() {
                return Ok(core);
            }
            self.advance_relaunch(&mut core)?;
            if began.elapsed() >= EXIT_TIME_MAX {
                return Err(EngineError::NeedsProcessExit { after: EXIT_TIME_MAX });
            }
            drop(core);
            std::thread::sleep(LOOK_PERIOD);
        }
    }

    /// Waits until every warp has obeyed the command of `epoch`.
    fn wait_obeyed(&self, epoch: u32, mode: Mode) -> Result<(), EngineError> {
        let began = Instant::now();
        while !is_obeyed(self.page.epoch_obeyed(), epoch) {
            if self.status.is_ended() {
                return Err(self.stopped());
            }
            if began.elapsed() >= TRANSITION_TIME_MAX {
                let (lagging, warps) = (self.lagging(epoch)?, self.warps());
                return Err(EngineError::TransitionTimeout { mode, lagging, warps, after: TRANSITION_TIME_MAX });
            }
            std::thread::sleep(LOOK_PERIOD);
        }
        Ok(())
    }

    /// Warps that have not obeyed the command of `epoch`, from device memory.
    fn lagging(&self, epoch: u32) -> Result<u32, EngineError> {
        let mut words = vec![0u64; (self.warps() as usize).div_ceil(2)];
        self.core().machine.read(self.layout.obeyed, &mut words, Purpose::Other)?;
        let obeyed: &[u32] = bytemuck::cast_slice(&words);
        let lags = obeyed.iter().take(self.warps() as usize).filter(|obeyed| !is_obeyed(u64::from(**obeyed), epoch));
        Ok(lags.count() as u32)
    }

    /// Tells the kernel to stop so that it can be launched anew. The mode stays what it was.
    pub(crate) fn begin_relaunch(&self, core: &mut Core) {
        if core.relaunching.is_none() && core.mode != Mode::Stopped {
            self.control.set_mode(Mode::Stopped);
            self.ring();
            core.relaunching = Some(Instant::now());
        }
    }

    /// Launches anew once the kernel has exited; whether no relaunch is under way any longer.
    pub(crate) fn advance_relaunch(&self, core: &mut Core) -> Result<bool, EngineError> {
        let Some(began) = core.relaunching else { return Ok(true) };
        if core.mode == Mode::Stopped || self.status.is_ended() {
            return Err(self.stopped());
        }
        let advanced = core.machine.has_exited().and_then(|has_exited| {
            if !has_exited {
                return match began.elapsed() >= EXIT_TIME_MAX {
                    true => Err(EngineError::NeedsProcessExit { after: EXIT_TIME_MAX }),
                    false => Ok(false),
                };
            }
            self.control.set_mode(core.mode);
            self.launch(core)?;
            core.relaunching = None;
            self.ring();
            Ok(true)
        });
        advanced.inspect_err(|error| self.fail(error))
    }

    /// Launches anew now and waits for it. The caller holds `steps`.
    pub(crate) fn relaunch(&self) -> Result<(), EngineError> {
        let mut core = self.settled_core()?;
        self.begin_relaunch(&mut core);
        drop(core);
        drop(self.settled_core()?);
        Ok(())
    }

    /// Notices a kernel that ended by itself. Not during a relaunch.
    pub(crate) fn check_kernel(&self, core: &mut Core) {
        if core.relaunching.is_some() || core.mode == Mode::Stopped || self.status.is_ended() {
            return;
        }
        match core.machine.has_exited() {
            Ok(false) => {}
            Ok(true) => self.fail(&EngineError::KernelFailed("it ended without being told to".into())),
            Err(error) => self.fail(&error),
        }
    }

    /// Ends service because of a fault.
    pub(crate) fn fail(&self, error: &EngineError) {
        if !self.status.is_ended() {
            tracing::error!(device = %self.device_name, %error, "the engine failed");
            self.status.end(&error.to_string());
        }
    }

    /// Stops the kernel and waits for its exit, for `limit` at most.
    pub(crate) fn stop(&self, limit: Duration, reason: &str) -> Result<(), EngineError> {
        {
            let mut core = self.core();
            if core.is_closed {
                return Ok(());
            }
            if core.mode != Mode::Stopped {
                self.control.set_mode(Mode::Stopped);
                core.relaunching = None;
                self.note(&mut core, Mode::Stopped);
            }
        }
        self.ring();
        let began = Instant::now();
        loop {
            match self.core().machine.has_exited() {
                Ok(true) => break,
                Ok(false) => {}
                Err(error) => self.fail(&error),
            }
            if began.elapsed() >= limit {
                // Requests that are published may still be answered, should the handler return after all; nobody waits.
                self.status.end(&EngineError::NeedsProcessExit { after: limit }.to_string());
                return Err(EngineError::NeedsProcessExit { after: limit });
            }
            std::thread::sleep(LOOK_PERIOD);
        }
        self.status.end(reason);
        Ok(())
    }

    /// Stops, frees the device and its memory; or leaves the kernel behind when it does not exit.
    ///
    /// Whether this value may be dropped: when not, the kernel still uses its memory.
    pub(crate) fn close(&self) -> bool {
        let stopped = self.stop(DROP_TIME_MAX, "its engine was dropped");
        let mut core = self.core();
        if std::mem::replace(&mut core.is_closed, true) {
            return true;
        }
        match stopped {
            Ok(()) => {
                core.machine.release();
                true
            }
            Err(error) => {
                let device = &self.device_name;
                tracing::error!(%device, %error, "the kernel is left behind; this process cannot use the device again");
                mark_unusable(core.machine.device_id());
                core.machine.leak();
                false
            }
        }
    }

    /// What every warp counts, read from device memory.
    pub(crate) fn warp_stats(&self) -> Result<Vec<WarpStats>, EngineError> {
        let mut stats = vec![<WarpStats as bytemuck::Zeroable>::zeroed(); self.warps() as usize];
        let mut core = self.core();
        if core.is_closed {
            return Err(self.stopped());
        }
        core.machine.read(self.layout.stats, bytemuck::cast_slice_mut(&mut stats), Purpose::Other)?;
        Ok(stats)
    }
}
