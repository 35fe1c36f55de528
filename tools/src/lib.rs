//! The commands of the program `tourbillon`, and what measuring programs share.
//!
//! | module | what it does |
//! | --- | --- |
//! | [`load`] | sends checked messages in a closed loop or at a fixed rate |
//! | [`doctor`] | says what this machine can do and why not more |
//! | [`new`](mod@new) | writes a package with actors of its own |
//! | [`top`] | shows running engines through their telemetry pages |
//! | [`environment`], [`gpu`] | what a figure was measured on |
//! | [`latency`], [`jitter`] | histograms, and the machine's own share of a tail |
//! | [`random`] | a small seeded generator |

pub mod doctor;
pub mod environment;
pub mod gpu;
pub mod jitter;
pub mod latency;
pub mod load;
pub mod new;
pub mod random;
pub mod top;
