//! The suites below `tests` as one program: as a program of its own each would bring the whole engine once more, to be compiled and,
//! in the bundle for GPUs, to be carried.
//!
//! What is named here says `test = false` in `Cargo.toml`, so that `cargo test` runs it once; `--test NAME` still makes one suite alone.
//! A suite that is named in neither place is a program of its own, here and in the bundle; so is `gateway_memory`, which counts
//! allocations with an allocator for its whole program.

#[path = "tests/arena.rs"]
mod arena;
#[path = "tests/backpressure.rs"]
mod backpressure;
#[path = "tests/bad_input.rs"]
mod bad_input;
#[path = "tests/bank.rs"]
mod bank;
#[path = "tests/blocks.rs"]
mod blocks;
#[path = "tests/bounded.rs"]
mod bounded;
#[path = "tests/broadcast.rs"]
mod broadcast;
#[path = "tests/clocks.rs"]
mod clocks;
#[path = "tests/dead_letters.rs"]
mod dead_letters;
#[path = "tests/evicted_collections.rs"]
mod evicted_collections;
#[path = "tests/evicted_versions.rs"]
mod evicted_versions;
#[path = "tests/exactly_once.rs"]
mod exactly_once;
#[path = "tests/faults.rs"]
mod faults;
#[path = "tests/gateway.rs"]
mod gateway;
#[path = "tests/gateway_ends.rs"]
mod gateway_ends;
#[path = "tests/gateway_large.rs"]
mod gateway_large;
#[path = "tests/gateway_spin.rs"]
mod gateway_spin;
#[path = "tests/going_on.rs"]
mod going_on;
#[path = "tests/host_actors.rs"]
mod host_actors;
#[path = "tests/host_actors_refused.rs"]
mod host_actors_refused;
#[path = "tests/keys.rs"]
mod keys;
#[path = "tests/lanes.rs"]
mod lanes;
#[path = "tests/large_churn.rs"]
mod large_churn;
#[path = "tests/large_circle.rs"]
mod large_circle;
#[path = "tests/letters.rs"]
mod letters;
#[path = "tests/lifecycle.rs"]
mod lifecycle;
#[path = "tests/options.rs"]
mod options;
#[path = "tests/oracle.rs"]
mod oracle;
#[path = "tests/outbox.rs"]
mod outbox;
#[path = "tests/panic_files.rs"]
mod panic_files;
#[path = "tests/pools.rs"]
mod pools;
#[path = "tests/priorities.rs"]
mod priorities;
#[path = "tests/processing.rs"]
mod processing;
#[path = "tests/questions.rs"]
mod questions;
#[path = "tests/recorded.rs"]
mod recorded;
#[path = "tests/registry.rs"]
mod registry;
#[path = "tests/rows.rs"]
mod rows;
#[path = "tests/stuck.rs"]
mod stuck;
#[path = "tests/supervised_actors.rs"]
mod supervised_actors;
#[path = "tests/supervised_letters.rs"]
mod supervised_letters;
#[path = "tests/supervised_orders.rs"]
mod supervised_orders;
#[path = "tests/supervised_trees.rs"]
mod supervised_trees;
#[path = "tests/supervision.rs"]
mod supervision;
#[path = "tests/telemetry.rs"]
mod telemetry;
#[path = "tests/topics.rs"]
mod topics;
#[path = "tests/topics_refused.rs"]
mod topics_refused;
#[path = "tests/typed.rs"]
mod typed;
#[path = "tests/virtual_actors.rs"]
mod virtual_actors;
