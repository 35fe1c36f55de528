//! The machine under a test.

use std::io::Write;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tourbillon::abi::telemetry::COUNTERS;
use tourbillon::actors::counter::Add;
use tourbillon::{Backend, Client, Counter, Engine, EngineBuilder, EngineError, SystemImage, probe_devices};

use crate::deadline::Deadline;

/// How long a test may take, waiting for its turn at the GPU aside.
pub const TEST_TIME_MAX: Duration = Duration::from_secs(80);
/// How long a client of a test waits for one reply: a hang is told as such well before the test's own deadline.
pub const REPLY_TIME_MAX: Duration = Duration::from_secs(15);
/// What the seeds of all simulations are derived from, so that a failure comes again.
const SEED: u64 = 0x7073_1d5a;
/// Fails a test that found no GPU when it is "1".
const REQUIRE_VARIABLE: &str = "TOURBILLON_REQUIRE_GPU";

/// A machine that a test can run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// CPU threads.
    Native {
        /// How many.
        threads: u32,
    },
    /// Simulated warps.
    Simulated {
        /// Lanes of each warp.
        lanes: u32,
        /// Whether stores come late and in any order.
        hostile_bus: bool,
    },
    /// The first GPU.
    Gpu,
}

impl Place {
    /// One CPU thread.
    pub fn native_1() -> Self {
        Self::Native { threads: 1 }
    }

    /// Three CPU threads.
    pub fn native_3() -> Self {
        Self::Native { threads: 3 }
    }

    /// Simulated warps of 4 lanes.
    pub fn simt_4() -> Self {
        Self::Simulated { lanes: 4, hostile_bus: false }
    }

    /// Simulated warps of 32 lanes.
    pub fn simt_32() -> Self {
        Self::Simulated { lanes: 32, hostile_bus: false }
    }

    /// Simulated warps of 32 lanes behind a hostile bus.
    pub fn simt_32_hostile() -> Self {
        Self::Simulated { lanes: 32, hostile_bus: true }
    }

    /// The first GPU.
    pub fn gpu() -> Self {
        Self::Gpu
    }
}

/// What a test's body gets: builders for engines on its machine.
#[derive(Clone, Copy, Debug)]
pub struct Bench {
    place: Place,
}

impl Bench {
    /// A bench on a machine, whether it exists or not.
    pub fn on(place: Place) -> Self {
        Self { place }
    }

    /// A builder for an engine of the shipped actors.
    pub fn builder(&self) -> EngineBuilder {
        self.builder_for(tourbillon::shipped_image())
    }

    /// A builder for an engine of other actors.
    pub fn builder_for(&self, image: SystemImage) -> EngineBuilder {
        let builder = Engine::builder_for(image);
        match self.place {
            Place::Native { threads } => builder.backend(Backend::Cpu).cpu_threads(threads),
            Place::Simulated { lanes, hostile_bus } => {
                builder.backend(Backend::Simt { lanes, seed: SEED, hostile_bus })
            }
            Place::Gpu => builder.backend(Backend::Cuda),
        }
    }

    /// An engine of the shipped actors.
    ///
    /// # Panics
    /// When it cannot be built.
    pub fn engine(&self) -> Engine {
        self.builder().build().expect("the engine is built")
    }

    /// How many of something: `simulated` where every lane of every warp is simulated, `full` elsewhere.
    pub fn scale(&self, full: u64, simulated: u64) -> u64 {
        if self.is_simulated() { simulated } else { full }
    }

    /// Whether this is a simulation.
    pub fn is_simulated(&self) -> bool {
        matches!(self.place, Place::Simulated { .. })
    }

    /// Whether warps have few lanes, and so take few frames at once.
    pub fn is_narrow(&self) -> bool {
        !matches!(self.place, Place::Gpu | Place::Simulated { lanes: 32, .. })
    }

    /// Whether panics cost lanes, so that the kernel asks to be launched anew: everywhere but on CPU threads.
    pub fn loses_lanes(&self) -> bool {
        !matches!(self.place, Place::Native { .. })
    }
}

/// A client that does not wait for ever.
///
/// # Panics
/// When there is none.
pub fn client(engine: &Engine) -> Client {
    let mut client = engine.client().expect("a free lane");
    client.set_timeout(Some(REPLY_TIME_MAX));
    client
}

/// The device's counters from device memory, exact: the engine, which must be active, is paused meanwhile.
///
/// # Panics
/// When the engine does not pause.
pub fn counters(engine: &Engine) -> [u64; COUNTERS] {
    engine.pause().expect("the engine pauses");
    let counters = engine.device_counters().expect("the counters are read");
    engine.resume().expect("the engine goes on");
    counters
}

/// One of the [`counters`].
///
/// # Panics
/// As [`counters`].
pub fn counted(engine: &Engine, counter: Counter) -> u64 {
    counters(engine)[counter as usize]
}

/// Waits until `is_so` holds.
///
/// # Panics
/// After [`REPLY_TIME_MAX`].
pub fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < REPLY_TIME_MAX, "{what}: not within {REPLY_TIME_MAX:?}");
        std::thread::sleep(Duration::from_micros(200));
    }
}

/// A well-mixed number for each number: sparse keys, amounts that tell messages apart.
pub fn mixed(number: u64) -> u64 {
    let mut x = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Bytes that follow from `seed`, and differ from those of other seeds in nearly every place.
pub fn bytes_of(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(length + 8);
    let mut number = mixed(seed);
    while bytes.len() < length {
        number = number.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(seed | 1);
        bytes.extend_from_slice(&(number ^ (number >> 29)).to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// The right to use the GPU among this process's tests: two ring kernels would wait for each other's multiprocessors.
pub fn gpu_turn() -> MutexGuard<'static, ()> {
    static GPU: Mutex<()> = Mutex::new(());
    // A test that failed leaves nothing half done here.
    GPU.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs a body on a machine, under a deadline; where there is no GPU for it, says so.
///
/// # Panics
/// As the body does; and without a GPU when one is required.
pub fn run(place: Place, body: fn(&Bench)) {
    let _turn = (place == Place::Gpu).then(gpu_turn);
    if is_skipped(place) {
        return;
    }
    let _deadline = Deadline::start(TEST_TIME_MAX);
    body(&Bench::on(place));
}

/// Whether the machine is a GPU that is not there, and says so.
///
/// # Panics
/// When a GPU is required.
pub fn is_skipped(place: Place) -> bool {
    if place != Place::Gpu {
        return false;
    }
    let reason = match probe_devices() {
        Ok(driver) if driver.devices.iter().any(|device| device.is_new_enough) => return false,
        Ok(driver) => format!("none of {} GPUs is new enough", driver.devices.len()),
        Err(error) => error.to_string(),
    };
    assert!(std::env::var(REQUIRE_VARIABLE).as_deref() != Ok("1"), "no GPU, and one is required: {reason}");
    // Past the capture of the test harness: a test that did nothing must not look like one that passed.
    let _ = writeln!(std::io::stderr().lock(), "SKIPPED: no GPU: {reason}");
    true
}

/// Whether an engine could not be built for want of a GPU, of whatever sort.
pub fn is_for_want_of_a_gpu(error: &EngineError) -> bool {
    use EngineError::{Cuda, DeviceTooOld, DriverTooOld, NoDriver, NoSuchDevice};
    matches!(error, NoDriver | DriverTooOld { .. } | NoSuchDevice { .. } | DeviceTooOld { .. } | Cuda { .. })
}

/// Adds to a counter; what it was before.
pub fn add_to(client: &mut Client, key: u64, amount: u32) -> u64 {
    client.call(key, Add { amount, sender: 0, sequence: 1 }).unwrap().previous
}
