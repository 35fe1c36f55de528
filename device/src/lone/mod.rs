//! The short way of a message that comes alone.
//!
//! What decides the latency of a lone request is how many instructions stand between its coming and its reply, for a single warp
//! finishes one in about four cycles. So a frame of one slot without extensions that meets nothing special goes a way of
//! its own, compiled into the loop together with the handlers: what it needs of the arguments is at hand, conditions are gathered
//! before a single branch, loads and locks are asked for before their answers are needed, one lane holds the whole message
//! and the state in registers, and counting comes after the reply. Whatever is special, be it a full ring, a new actor or a
//! longer frame, is left to the long way ([`gate`](crate::gate), [`turn`](crate::turn)), which is one call out of the loop so
//! that it takes no registers there.

pub(crate) mod forward;
mod hand;
pub(crate) mod letter;
mod mail;
pub(crate) mod run;
