//! The binary interface of Tourbillon: everything that host, device and other processes must agree on.
//!
//! The crate knows neither a GPU driver nor an async runtime nor any actor. It holds layouts
//! (`repr(C)`, const-asserted), the codecs that read and write them, and the pure arithmetic of rings,
//! partitions and clocks. It compiles for the device as it is.
//!
//! | module | what it defines |
//! | --- | --- |
//! | [`slot`] | the 64-byte slot, its four self-validating chunks |
//! | [`position`] | positions, laps and capacities of a ring |
//! | [`ring`] | reading and writing slots over any memory ([`ring::Cells`]) |
//! | [`header`] | the 32-byte frame header, flags and extensions |
//! | [`frame`] | frames of 1 to 8 slots: spans, encoding, decoding |
//! | [`lane`] | a client's lane in shared memory |
//! | [`arena`] | payloads that are larger than a frame |
//! | [`outbox`] | messages to a client that it did not ask for |
//! | [`mailbox`] | messages between actors |
//! | [`host_actors`] | messages to actors whose handlers are code of the host |
//! | [`broadcast`] | one message to every living actor of a kind |
//! | [`options`] | deadline, message id and expected version of a request |
//! | [`dedup`] | the messages that were handled, by their ids |
//! | [`dead_letter`] | messages that could not be delivered |
//! | [`control`] | the words by which the host steers the ring kernel |
//! | [`telemetry`] | the page that the device loop writes and anyone may read |
//! | [`pool`] | memory in pages for collections in actors' states |
//! | [`published`] | blocks of data in pools that actors of all shards may read |
//! | [`epoch`] | when memory that others may still read is free again |
//! | [`partition`] | key to partition to shard |
//! | [`pattern`] | names in segments, and patterns with wildcards for many of them |
//! | [`hlc`] | the hybrid logical clock |
//! | [`error`] | failure codes that travel in replies |
//! | [`geometry`] | block, warp, shard and memory layout of one engine |
//! | [`floor`] | what the bare floor kernels of the latency bench get |
//! | [`hlc_bench`] | what its kernel gets that measures the price of a timestamp |
//! | [`litmus`] | what the kernels of the litmus tests get, and how their observers judge |
//! | [`supervision`] | whose child an actor is, what parents order, what they are told |
//! | [`virtual_actors`] | key spaces; what a shard and the store of the host say to each other |
//! | [`abi`] | the hash that two sides compare before they trust each other |

#![no_std]

#[cfg(any(test, feature = "mutants"))]
extern crate std;

pub mod abi;
pub mod arena;
pub mod block;
pub mod broadcast;
pub mod control;
pub mod dead_letter;
pub mod dedup;
pub mod epoch;
pub mod error;
pub mod floor;
pub mod frame;
pub mod geometry;
pub mod header;
pub mod hlc;
pub mod hlc_bench;
pub mod host_actors;
pub mod lane;
pub mod litmus;
pub mod mailbox;
#[doc(hidden)]
pub mod mutants;
pub mod options;
pub mod outbox;
pub mod partition;
pub mod pattern;
pub mod pool;
pub mod position;
pub mod published;
pub mod ring;
pub mod slot;
pub mod supervision;
pub mod telemetry;
pub mod virtual_actors;
