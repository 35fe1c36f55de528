//! Collections that grow, for actors' states: [`PoolVec`], [`PoolMap`] and [`PoolSet`], whose elements lie in the pool of the actor's
//! shard; and blocks there that never change, which actors of all shards read: [`BlockRef`].
//!
//! The pool's protocol is in [`tourbillon_shared::pool`].
//!
//! | module | what it does |
//! | --- | --- |
//! | `lane` | pages, as the message on one lane takes, copies and frees them |
//! | `turn` | before the handlers of a batch and after them |
//! | `tree` | pages in a row, found by number |
//! | `contents`, `moving` | which collections a state has; their pages on the way to the store and back |
//! | `row`, `table`, `bytes` | sequences and hash tables of elements of any size |
//! | `vec`, `map`, `set` | the collections: types and borrows around those |
//! | `publish` | published blocks, as the message on one lane makes, finds and takes back |
//! | `epoch` | before and after a batch that reads blocks; blocks that wait until nobody can read them |
//! | `block_ref` | references to blocks, and what a reader sees |
//!
//! # What a handler may do with them
//! A collection's handle is plain data, as the whole state is, and all zero is the empty collection. It belongs to the actor in whose
//! state it lies. Every operation takes the context, and fails with a [`PoolError`] when the pool has no page left. When a handler then
//! returns an error, any error, the message fails with [`FailureCode::PoolExhausted`](tourbillon_shared::error::FailureCode):
//! the handler's error is thrown away, so that `?` is all that is needed. A handler that has an answer of its own to an exhausted
//! pool says so by [`Context::forgive`](crate::Context::forgive).
//!
//! An operation that fails leaves its collection as it was. A message that fails, however it does, leaves all collections as they
//! were, and takes no page.
//!
//! # What is refused
//! Whatever words a handle has, an operation touches no page but those of the actor that runs, and panics nowhere. The pages of a
//! handle that was copied into another actor's state or to another shard, or of a copy whose original has changed, are found not to be
//! there ([`PoolError::Stale`]), unless the same actor has used them again meanwhile, for what then are its own elements. Elements are
//! [`Pod`](bytemuck::Pod), so any bytes are some value.

mod block_ref;
#[cfg(test)]
mod block_tests;
mod bytes;
pub mod contents;
pub(crate) mod epoch;
mod error;
pub(crate) mod lane;
mod map;
pub(crate) mod moving;
mod publish;
mod row;
mod set;
mod table;
#[cfg(test)]
mod tests;
mod tree;
pub(crate) mod turn;
mod vec;

pub use block_ref::{BlockIter, BlockRef, BlockView};
pub use error::PoolError;
pub use map::{MapIter, PoolMap};
pub use set::PoolSet;
pub use vec::{PoolVec, VecIter};
