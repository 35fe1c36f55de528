//! The actors that come with Tourbillon.
//!
//! They use nothing that a user's own actors cannot use: plain data, handlers, [`actor!`](tourbillon_device::actor!) and [`system!`](tourbillon_device::system!).
//!
//! | actor | kind | what it is for |
//! | --- | --- | --- |
//! | [`Echo`] | 1 | returns what it got, in three sizes |
//! | [`Counter`] | 2 | counts, and shows in which order messages came |
//! | [`Account`] | 3 | money that cannot be overdrawn |
//! | [`Faulty`] | 4 | fails on demand, in every way that a handler can |
//! | [`Blob`] | 5 | takes and gives payloads that are larger than a frame |
//! | [`Herald`] | 6 | tells its subscribers without being asked |
//! | [`Book`] | 7 | matches limit orders, in collections that grow |
//! | [`Hoard`] | 8 | fails on demand while it changes collections |
//! | [`Courier`] | 9 | carries messages between actors |
//! | [`Vault`] | 10 | an account from which money goes to others |
//! | [`Gazette`] | 11 | publishes blocks, and reads those of others |
//! | [`Rover`] | 12 | lets messages pass, and counts them |
//! | [`Topic`] | 13 | has subscribers, which get what is published |
//! | [`Supervisor`] | 14 | starts actors as its children, and decides what becomes of them when they fail |
//! | [`Crier`] | 15 | tells all of its kind, and counts what it hears |
//! | [`Relay`] | 16 | hands a message to and fro, and notes how long it was under way |
//!
//! The last ten are not in the system that every engine has by default: what a handler with collections calls takes more registers
//! than the dispatch loop of the others leaves, and so does what sends messages. `examples/market` is a system of those with collections, `examples/bank`
//! of those that send, `benches/relays` of relays, `examples/press` of the one that publishes blocks, `examples/ticker` of topics, and `examples/crew` of a supervisor.

#![cfg_attr(target_arch = "nvptx64", no_std)]

pub mod account;
pub mod blob;
pub mod book;
pub mod counter;
pub mod courier;
pub mod crier;
pub mod echo;
pub mod faulty;
pub mod gazette;
pub mod herald;
pub mod hoard;
pub mod relay;
pub mod rover;
pub mod supervisor;
pub mod topic;
pub mod vault;

pub use account::Account;
pub use blob::Blob;
pub use book::Book;
pub use counter::Counter;
pub use courier::Courier;
pub use crier::Crier;
pub use echo::Echo;
pub use faulty::Faulty;
pub use gazette::Gazette;
pub use herald::Herald;
pub use hoard::Hoard;
pub use relay::Relay;
pub use rover::Rover;
pub use supervisor::Supervisor;
pub use topic::{Topic, TopicRef};
pub use vault::Vault;

/// Declares, where it is written, the system of the actors of this crate that neither have collections nor send messages as `Shipped`.
///
/// A macro, because a host gives its system the kernels that it was built with, and the kernels' crate gives its own an entry.
#[macro_export]
macro_rules! shipped {
    () => {
        tourbillon_device::system! {
            /// The actors that come with Tourbillon. A lone message is compared with the kinds in their order, so the first is found
            /// soonest.
            pub struct Shipped =
                [$crate::Counter, $crate::Echo, $crate::Account, $crate::Faulty, $crate::Blob, $crate::Herald];
        }
    };
}
