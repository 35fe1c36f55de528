//! Derives for the data of Tourbillon's actors. What is derived stands in the crates that give them on: `Plain` and `State` of
//! `tourbillon`, for users, and of `tourbillon_device`.
//!
//! | module | what it does |
//! | --- | --- |
//! | `shape` | reads a type, and refuses what is no plain data, saying why and what to write instead |
//! | `expand` | writes the implementation |
//!
//! Two of each derive, because a derive cannot know by which of the two crates its user came to it.

mod expand;
mod shape;

use proc_macro::TokenStream;

use crate::expand::Role;

/// Where what a derive refers to is found by a crate that depends on `tourbillon` alone.
const OF_USERS: &str = "::tourbillon::__device";
/// The same for crates that depend on `tourbillon-device`.
const OF_DEVICE: &str = "::tourbillon_device";

/// Data that travels: see the trait of the same name.
#[proc_macro_derive(Plain, attributes(schema))]
pub fn plain(input: TokenStream) -> TokenStream {
    expand::derive(input.into(), OF_USERS, Role::Plain).into()
}

/// The state of an actor: see the trait of the same name.
#[proc_macro_derive(State, attributes(schema))]
pub fn state(input: TokenStream) -> TokenStream {
    expand::derive(input.into(), OF_USERS, Role::State).into()
}

/// As [`Plain`], for crates that depend on `tourbillon-device`, which calls it `Plain`.
#[proc_macro_derive(PlainOfDevice, attributes(schema))]
pub fn plain_of_device(input: TokenStream) -> TokenStream {
    expand::derive(input.into(), OF_DEVICE, Role::Plain).into()
}

/// As [`State`], for crates that depend on `tourbillon-device`, which calls it `State`.
#[proc_macro_derive(StateOfDevice, attributes(schema))]
pub fn state_of_device(input: TokenStream) -> TokenStream {
    expand::derive(input.into(), OF_DEVICE, Role::State).into()
}
