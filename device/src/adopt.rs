//! Taking over states that were kept outside of an engine: bytes of this version or of another one, from wherever they come.
//!
//! ```
//! use tourbillon_device::{AdoptError, Context, Handler, NoError, Plain, State, actor, system};
//!
//! /// The account as it is today.
//! #[repr(C)]
//! #[derive(Clone, Copy, Debug, PartialEq, State)]
//! #[schema(2)]
//! struct Account {
//!     cents: u64,
//!     deposits: u64,
//! }
//!
//! /// The account as it was: kept as long as its bytes may come back.
//! #[repr(C)]
//! #[derive(Clone, Copy, State)]
//! struct AccountOf1 {
//!     euros: u64,
//! }
//!
//! fn upgrade(schema: u32, layout: u64, bytes: &[u8]) -> Option<Account> {
//!     let old = match schema {
//!         1 if layout == AccountOf1::LAYOUT => AccountOf1::from_bytes(bytes)?,
//!         _ => return None,
//!     };
//!     Some(Account { cents: old.euros.checked_mul(100)?, deposits: 0 })
//! }
//!
//! #[repr(C)]
//! #[derive(Clone, Copy, Plain)]
//! struct Deposit(u64);
//!
//! impl Handler<Deposit> for Account {
//!     type Reply = u64;
//!     fn handle(&mut self, message: &Deposit, _context: &mut Context) -> Result<u64, NoError> {
//!         self.cents += message.0;
//!         self.deposits += 1;
//!         Ok(self.cents)
//!     }
//! }
//!
//! actor!(Account { kind: 900, error: NoError, messages: { 0: Deposit }, upgrade: upgrade });
//! system! { struct Bank = [Account]; }
//!
//! let kept = AccountOf1 { euros: 12 };
//! let bytes = Bank::image().adopt(900, AccountOf1::SCHEMA, AccountOf1::LAYOUT, kept.as_bytes())?;
//! assert_eq!(Account::from_bytes(&bytes), Some(Account { cents: 1200, deposits: 0 }));
//! assert!(matches!(Bank::image().adopt(900, 3, 0, &[]), Err(AdoptError::Refused { .. })));
//! # Ok::<(), AdoptError>(())
//! ```

use std::panic::{AssertUnwindSafe, catch_unwind};

use tourbillon_shared::mutant;

use crate::actor::Actor;

/// Why the bytes of a state are not taken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AdoptError {
    /// The system has no such kind.
    UnknownKind {
        /// Name of the system.
        system: &'static str,
        /// What was asked for.
        kind: u16,
    },
    /// The bytes are of another version, and the actor has no way to take it over.
    NoUpgrade {
        /// Name of the actor.
        actor: &'static str,
        /// Version of the bytes.
        found: u32,
        /// Version of this system.
        expected: u32,
    },
    /// The version is that of this system, but the layout is another.
    OtherLayout {
        /// Name of the actor.
        actor: &'static str,
        /// The version of both.
        schema: u32,
        /// Layout of the bytes.
        found: u64,
        /// Layout of the state in this system.
        expected: u64,
    },
    /// Version and layout are those of this system, but not the number of bytes.
    WrongLength {
        /// Name of the actor.
        actor: &'static str,
        /// How many there are.
        found: usize,
        /// How many a state has.
        expected: usize,
    },
    /// Version, layout and length are those of this system, but the bytes are no value of the state.
    InvalidValue {
        /// Name of the actor.
        actor: &'static str,
    },
    /// The actor's `upgrade` refused the bytes.
    Refused {
        /// Name of the actor.
        actor: &'static str,
        /// Version of the bytes.
        found: u32,
        /// Version of this system.
        expected: u32,
    },
    /// The actor's `upgrade` panicked.
    Panicked {
        /// Name of the actor.
        actor: &'static str,
        /// Version of the bytes.
        found: u32,
        /// Version of this system.
        expected: u32,
    },
}

impl core::fmt::Display for AdoptError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::UnknownKind { system, kind } => write!(
                f,
                "the system {system} has no kind {kind}: add the actor to `system!`, or bring its state to an engine that has it"
            ),
            Self::NoUpgrade { actor, found, expected } => write!(
                f,
                "the state of {actor} was kept in version {found} of its schema, this program has version {expected} and no way from \
                 one to the other: give `actor!` an `upgrade`"
            ),
            Self::OtherLayout { actor, schema, found, expected } => write!(
                f,
                "the state of {actor} was kept in version {schema} of its schema, which this program has too, but with another layout \
                 ({found:#018x}, here {expected:#018x}): raise the version with `#[schema({})]` and give `actor!` an `upgrade`",
                schema.wrapping_add(1)
            ),
            Self::WrongLength { actor, found, expected } => write!(
                f,
                "the state of {actor} has {expected} bytes, what was kept has {found}: it is damaged, or of another version than it says"
            ),
            Self::InvalidValue { actor } => write!(
                f,
                "what was kept is no value of the state {actor}: an enum, a `bool` or a `char` in it is none; it is damaged, or of \
                 another version than it says"
            ),
            Self::Refused { actor, found, expected } => write!(
                f,
                "the `upgrade` of {actor} refused a state of version {found} of its schema (this program has version {expected}): let \
                 it take that version and layout, or look whether the bytes are damaged"
            ),
            Self::Panicked { actor, found, expected } => write!(
                f,
                "the `upgrade` of {actor} panicked at a state of version {found} of its schema (this program has version {expected}); \
                 let it return `None` for what it cannot take"
            ),
        }
    }
}

impl core::error::Error for AdoptError {}

/// Takes over the state of one kind: from schema, layout and bytes to the bytes of this system's state.
pub(crate) type Adopt = fn(u32, u64, &[u8]) -> Result<Vec<u8>, AdoptError>;

/// [`Adopt`] of the actor `A`.
pub(crate) fn adopt<A: Actor>(schema: u32, layout: u64, bytes: &[u8]) -> Result<Vec<u8>, AdoptError> {
    let (actor, found, expected) = (A::NAME, schema, A::SCHEMA);
    if schema == A::SCHEMA {
        if layout != A::LAYOUT && !mutant!("adopted_whatever_the_layout") {
            return Err(AdoptError::OtherLayout { actor, schema, found: layout, expected: A::LAYOUT });
        }
        if bytes.len() != size_of::<A>() {
            return Err(AdoptError::WrongLength { actor, found: bytes.len(), expected: size_of::<A>() });
        }
        return match A::from_bytes(bytes) {
            Some(_) => Ok(bytes.to_vec()),
            None if mutant!("adopted_unchecked") => Ok(bytes.to_vec()),
            None => Err(AdoptError::InvalidValue { actor }),
        };
    }
    let upgrade = A::UPGRADE.ok_or(AdoptError::NoUpgrade { actor, found, expected })?;
    // It borrows bytes that it cannot change, and what it owns goes with it.
    match catch_unwind(AssertUnwindSafe(|| upgrade(schema, layout, bytes))) {
        Ok(Some(state)) => Ok(state.as_bytes().to_vec()),
        Ok(None) => Err(AdoptError::Refused { actor, found, expected }),
        Err(_) => Err(AdoptError::Panicked { actor, found, expected }),
    }
}
