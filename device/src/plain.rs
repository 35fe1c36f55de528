//! Data that travels in messages and stays in states: plain, without padding, checked when it comes in, and with a hash of its layout.
//!
//! ```
//! use tourbillon_device::Plain;
//!
//! #[repr(u8)]
//! #[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
//! enum Side {
//!     Buy = 1,
//!     Sell = 2,
//! }
//!
//! #[repr(C)]
//! #[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
//! struct Order {
//!     amount: u32,
//!     side: Side,
//!     is_urgent: bool,
//!     filler: [u8; 2],
//! }
//!
//! let order = Order { amount: 7, side: Side::Sell, is_urgent: true, filler: [0; 2] };
//! assert_eq!(Order::from_bytes(order.as_bytes()), Some(order));
//! // There is no third side, and nothing is more urgent than urgent.
//! assert_eq!(Order::from_bytes(&[7, 0, 0, 0, 3, 1, 0, 0]), None);
//! assert_eq!(Order::from_bytes(&[7, 0, 0, 0, 2, 2, 0, 0]), None);
//! ```

use core::mem::MaybeUninit;

use tourbillon_shared::outbox::Subscriber;

use crate::pool::contents::Collections;

/// Data that travels in a message, a reply, an error or a notice, or is a part of it. Derived, with `#[derive(Clone, Copy, Plain)]`:
///
/// - for structs with `#[repr(C)]` or `#[repr(transparent)]` whose fields are plain data and leave no padding,
/// - for enums without fields, with `#[repr(u8)]`, `#[repr(u16)]` or `#[repr(u32)]` (or another integer of fixed size).
///
/// Integers of fixed size, floats, `bool`, `char`, arrays and [`Subscriber`] are plain data.
///
/// Bytes from outside are a value only when every enum, `bool` and `char` in them is one; a message of others is answered with
/// `InvalidPayload`.
///
/// # Safety
/// A value has no byte that is not set. [`is_valid`](Self::is_valid) holds for nothing but values, and
/// [`ZERO_IS_VALID`](Self::ZERO_IS_VALID) only where all zero is a value.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no plain data, so no part of a message, a reply, an error or a state",
    label = "not plain data",
    note = "plain data are integers of fixed size, floats, `bool`, arrays of plain data, and types of yours with `#[repr(C)]` and \
            `#[derive(Clone, Copy, Plain)]` (`State` for an actor's state)"
)]
pub unsafe trait Plain: Copy + 'static {
    /// A hash of the layout: size, alignment, and of every field its name, its offset and the layout of its type; of an enum the
    /// integer that it is, and of every variant its name and its number. Types' own names do not count, so that the struct of an older
    /// version may be kept under another name.
    const LAYOUT: u64;
    /// The version of the schema: `#[schema(2)]` beside the derive, 1 without. To be raised when the layout of a state changes whose
    /// bytes are kept outside, or what its bytes mean.
    const SCHEMA: u32 = 1;
    /// Whether all bytes zero are a value.
    #[doc(hidden)]
    const ZERO_IS_VALID: bool;
    /// The handles of collections in a value.
    #[doc(hidden)]
    const COLLECTIONS: Collections = Collections::NONE;

    /// Whether the bytes there are a value.
    ///
    /// # Safety
    /// `at` is aligned, and as many bytes as a value has are readable there and set.
    #[doc(hidden)]
    unsafe fn is_valid(at: *const Self) -> bool;

    /// The value whose bytes these are: nothing when there are more or fewer than it has, or when an enum, a `bool` or a `char` in
    /// them is none.
    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        if bytes.len() != size_of::<Self>() {
            return None;
        }
        let mut value = MaybeUninit::<Self>::uninit();
        // SAFETY: as many bytes as the value has are copied, so all of them are set, and they were found to be a value.
        unsafe {
            value.as_mut_ptr().cast::<u8>().copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
            Self::is_valid(value.as_ptr()).then(|| value.assume_init())
        }
    }

    /// The bytes of the value.
    #[inline(always)]
    fn as_bytes(&self) -> &[u8] {
        // SAFETY: a value has no byte that is not set.
        unsafe { core::slice::from_raw_parts(core::ptr::from_ref(self).cast(), size_of::<Self>()) }
    }
}

/// The state of an actor: plain data of at most 256 bytes. Derived, with `#[derive(Clone, Copy, State)]`, which derives [`Plain`] as well.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no state of an actor",
    label = "no state",
    note = "write `#[repr(C)]` and `#[derive(Clone, Copy, State)]` at `{Self}`"
)]
pub trait State: Plain {}

macro_rules! any_bits {
    ($($name:ty: $sort:literal),+ $(,)?) => {
        $(
            // SAFETY: it has no padding, and any bytes are a value.
            #[diagnostic::do_not_recommend]
            unsafe impl Plain for $name {
                const LAYOUT: u64 = layout::begin($sort, size_of::<Self>(), align_of::<Self>());
                const ZERO_IS_VALID: bool = true;

                #[inline(always)]
                unsafe fn is_valid(_at: *const Self) -> bool {
                    true
                }
            }
        )+
    };
}

any_bits!(
    u8: "u8", u16: "u16", u32: "u32", u64: "u64", u128: "u128", i8: "i8", i16: "i16", i32: "i32", i64: "i64", i128: "i128",
    f32: "f32", f64: "f64", (): "()",
);

// SAFETY: one byte, 0 or 1.
#[diagnostic::do_not_recommend]
unsafe impl Plain for bool {
    const LAYOUT: u64 = layout::begin("bool", 1, 1);
    const ZERO_IS_VALID: bool = true;

    #[inline(always)]
    unsafe fn is_valid(at: *const Self) -> bool {
        // SAFETY: the caller vouches for the byte.
        unsafe { *at.cast::<u8>() <= 1 }
    }
}

// SAFETY: four bytes, of which `char::from_u32` knows whether they are one.
#[diagnostic::do_not_recommend]
unsafe impl Plain for char {
    const LAYOUT: u64 = layout::begin("char", size_of::<Self>(), align_of::<Self>());
    const ZERO_IS_VALID: bool = true;

    #[inline(always)]
    unsafe fn is_valid(at: *const Self) -> bool {
        // SAFETY: the caller vouches for the bytes, which are aligned like a word.
        char::from_u32(unsafe { *at.cast::<u32>() }).is_some()
    }
}

// SAFETY: an array has no bytes but those of its items, and is a value when all of them are.
#[diagnostic::do_not_recommend]
unsafe impl<T: Plain, const N: usize> Plain for [T; N] {
    const LAYOUT: u64 = {
        let hash = layout::begin("array", size_of::<Self>(), align_of::<T>());
        layout::number(layout::number(hash, N as u64), T::LAYOUT)
    };
    const ZERO_IS_VALID: bool = N == 0 || T::ZERO_IS_VALID;
    const COLLECTIONS: Collections = Collections::repeated(N, size_of::<T>(), &T::COLLECTIONS);

    #[inline(always)]
    unsafe fn is_valid(at: *const Self) -> bool {
        let mut i = 0;
        while i < N {
            // SAFETY: the caller vouches for all items; `i` is below their number.
            if !unsafe { T::is_valid(at.cast::<T>().add(i)) } {
                return false;
            }
            i += 1;
        }
        true
    }
}

// SAFETY: two words, any of which is a value.
#[diagnostic::do_not_recommend]
unsafe impl Plain for Subscriber {
    const LAYOUT: u64 = {
        let hash = layout::begin("struct", size_of::<Self>(), align_of::<Self>());
        let hash = layout::field(hash, "lane", core::mem::offset_of!(Self, lane), u32::LAYOUT);
        layout::field(hash, "generation", core::mem::offset_of!(Self, generation), u32::LAYOUT)
    };
    const ZERO_IS_VALID: bool = true;

    #[inline(always)]
    unsafe fn is_valid(_at: *const Self) -> bool {
        true
    }
}

/// The hash of a layout: FNV-1a over its parts, texts preceded by their length.
#[doc(hidden)]
pub mod layout {
    const OFFSET: u64 = 0xCBF2_9CE4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01B3;

    /// Adds a number.
    pub const fn number(hash: u64, number: u64) -> u64 {
        bytes(hash, &number.to_le_bytes())
    }

    /// The hash of a type of this sort, before its parts.
    pub const fn begin(sort: &str, size: usize, alignment: usize) -> u64 {
        number(number(text(OFFSET, sort), size as u64), alignment as u64)
    }

    /// Adds a field, whose type has the layout `of`.
    pub const fn field(hash: u64, name: &str, offset: usize, of: u64) -> u64 {
        number(number(text(hash, name), offset as u64), of)
    }

    /// Adds a variant.
    pub const fn variant(hash: u64, name: &str, value: i128) -> u64 {
        bytes(text(hash, name), &value.to_le_bytes())
    }

    const fn text(hash: u64, text: &str) -> u64 {
        bytes(number(hash, text.len() as u64), text.as_bytes())
    }

    const fn bytes(mut hash: u64, bytes: &[u8]) -> u64 {
        let mut i = 0;
        while i < bytes.len() {
            hash = (hash ^ bytes[i] as u64).wrapping_mul(PRIME);
            i += 1;
        }
        hash
    }
}
