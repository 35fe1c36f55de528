//! Derived data: which bytes are values, and what the hash of a layout depends on.

use proptest::prelude::*;
use tourbillon_device::shared::outbox::Subscriber;
use tourbillon_device::{NoError, Plain, State};

#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
enum Side {
    Buy = 1,
    Sell = 2,
    Neither = 200,
}

#[repr(i16)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
enum Trend {
    Down = -1,
    Level,
    Up,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Plain)]
struct Order {
    price: f64,
    amount: u32,
    trend: Trend,
    sides: [Side; 2],
}

#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Plain)]
struct Wrapped(Order);

#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, State)]
#[schema(7)]
struct Book {
    orders: [Wrapped; 3],
    is_open: bool,
    flags: [bool; 3],
    letter: char,
    subscriber: Subscriber,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Plain)]
struct Nothing;

/// Whether the bytes of an order are one, by hand.
fn is_order(bytes: &[u8]) -> bool {
    let trend = i16::from_ne_bytes([bytes[12], bytes[13]]);
    (-1..=1).contains(&trend) && bytes[14..16].iter().all(|side| [1, 2, 200].contains(side))
}

/// Whether the bytes of a book are one, by hand.
fn is_book(bytes: &[u8]) -> bool {
    let letter = u32::from_ne_bytes(bytes[52..56].try_into().unwrap());
    bytes[..48].chunks(16).all(is_order)
        && bytes[48..52].iter().all(|flag| *flag < 2)
        && char::from_u32(letter).is_some()
}

/// Bytes that are often those of an enum or a `bool`.
fn bytes(count: usize) -> impl Strategy<Value = Vec<u8>> {
    let byte =
        prop_oneof![4 => Just(1u8), 2 => Just(0), 1 => Just(2), 1 => Just(200), 1 => Just(255), 1 => any::<u8>()];
    prop::collection::vec(byte, count)
}

/// A book, to be spoiled.
fn good_book() -> Vec<u8> {
    let order = Order { price: 1.5, amount: 3, trend: Trend::Down, sides: [Side::Sell, Side::Neither] };
    let book = Book {
        orders: [Wrapped(order); 3],
        is_open: true,
        flags: [false, true, false],
        letter: 'ä',
        subscriber: Subscriber { lane: 1, generation: 2 },
    };
    book.as_bytes().to_vec()
}

proptest! {
    #[test]
    fn bytes_are_a_value_exactly_when_every_part_is(bytes in bytes(16)) {
        prop_assert_eq!(Order::from_bytes(&bytes).is_some(), is_order(&bytes));
    }

    #[test]
    fn values_keep_their_bytes(mut bytes in bytes(16)) {
        bytes[12..16].copy_from_slice(&[1, 0, 1, 2]);
        let order = Order::from_bytes(&bytes).unwrap();
        prop_assert_eq!(order.as_bytes(), &bytes[..]);
    }

    #[test]
    fn one_byte_decides(at in 0usize..64, byte: u8) {
        let mut bytes = good_book();
        bytes[at] = byte;
        prop_assert_eq!(Book::from_bytes(&bytes).is_some(), is_book(&bytes), "{} at {}", byte, at);
    }
}

#[test]
fn a_value_has_its_length() {
    let book = good_book();
    assert!(Book::from_bytes(&book).is_some());
    assert_eq!(Book::from_bytes(&book[..63]), None);
    assert_eq!(Book::from_bytes(&[book.clone(), vec![0]].concat()), None);
    assert_eq!(Nothing::from_bytes(&[]), Some(Nothing));
    assert_eq!(Nothing::from_bytes(&[0]), None);
}

#[test]
fn what_may_be_all_zero_is_known() {
    assert_eq!(
        [Side::ZERO_IS_VALID, Order::ZERO_IS_VALID, Book::ZERO_IS_VALID, <[Side; 1]>::ZERO_IS_VALID],
        [false; 4]
    );
    assert_eq!(
        [Trend::ZERO_IS_VALID, bool::ZERO_IS_VALID, NoError::ZERO_IS_VALID, <[Side; 0]>::ZERO_IS_VALID],
        [true; 4]
    );
}

#[test]
fn the_version_is_that_of_the_attribute() {
    assert_eq!((Book::SCHEMA, Order::SCHEMA), (7, 1));
}

/// Types that differ in one thing each.
macro_rules! layouts {
    ($($name:ident { $($tokens:tt)* })+) => {
        [$({
            mod $name {
                use tourbillon_device::Plain;
                $($tokens)*
                pub const LAYOUT: u64 = A::LAYOUT;
            }
            (stringify!($name), $name::LAYOUT)
        }),+]
    };
}

#[test]
#[allow(dead_code, reason = "only their layouts are looked at")]
fn every_part_of_a_layout_counts() {
    let layouts = layouts! {
        first { #[repr(C)] #[derive(Clone, Copy, Plain)] pub struct A { one: u32, two: u32 } }
        order { #[repr(C)] #[derive(Clone, Copy, Plain)] pub struct A { two: u32, one: u32 } }
        name { #[repr(C)] #[derive(Clone, Copy, Plain)] pub struct A { one: u32, tow: u32 } }
        kind { #[repr(C)] #[derive(Clone, Copy, Plain)] pub struct A { one: u32, two: i32 } }
        more { #[repr(C)] #[derive(Clone, Copy, Plain)] pub struct A { one: u32, two: u32, three: u32 } }
        tuple { #[repr(C)] #[derive(Clone, Copy, Plain)] pub struct A(u32, u32); }
        array { #[repr(C)] #[derive(Clone, Copy, Plain)] pub struct A { one: [u32; 2] } }
        aligned { #[repr(C, align(8))] #[derive(Clone, Copy, Plain)] pub struct A { one: u32, two: u32 } }
        nested {
            #[repr(C)] #[derive(Clone, Copy, Plain)] pub struct B { three: u32 }
            #[repr(C)] #[derive(Clone, Copy, Plain)] pub struct A { one: u32, two: B }
        }
        nested_otherwise {
            #[repr(C)] #[derive(Clone, Copy, Plain)] pub struct B { four: u32 }
            #[repr(C)] #[derive(Clone, Copy, Plain)] pub struct A { one: u32, two: B }
        }
        variants { #[repr(u32)] #[derive(Clone, Copy, Plain)] pub enum A { One, Two } }
        variants_numbers { #[repr(u32)] #[derive(Clone, Copy, Plain)] pub enum A { One = 1, Two } }
        variants_names { #[repr(u32)] #[derive(Clone, Copy, Plain)] pub enum A { One, Tow } }
        variants_sign { #[repr(i32)] #[derive(Clone, Copy, Plain)] pub enum A { One, Two } }
        variants_size { #[repr(u8)] #[derive(Clone, Copy, Plain)] pub enum A { One, Two } }
        variants_count { #[repr(u32)] #[derive(Clone, Copy, Plain)] pub enum A { One, Two, Three } }
        nothing { #[repr(C)] #[derive(Clone, Copy, Plain)] pub struct A {} }
    };
    for (i, (name, layout)) in layouts.iter().enumerate() {
        for (other, another) in &layouts[..i] {
            assert_ne!(layout, another, "{name} and {other}");
        }
    }
}

#[test]
fn names_of_types_and_versions_do_not_count() {
    #[allow(dead_code, reason = "only its layout is looked at")]
    #[repr(C)]
    #[derive(Clone, Copy, Plain)]
    #[schema(2)]
    struct OrderOf2 {
        price: f64,
        amount: u32,
        trend: Trend,
        sides: [Side; 2],
    }
    assert_eq!(OrderOf2::LAYOUT, Order::LAYOUT);
}

/// Layouts are kept outside, so the hash of a type must never become another.
#[test]
fn layouts_stay_what_they_were() {
    let layouts = [u8::LAYOUT, bool::LAYOUT, <[u32; 3]>::LAYOUT, Subscriber::LAYOUT, Side::LAYOUT, Order::LAYOUT];
    assert_eq!(layouts.map(|layout| format!("{layout:016x}")), RECORDED);
}

/// As computed when the hash was written.
const RECORDED: [&str; 6] = [
    "27b729848f3332ea",
    "49c35f935188f421",
    "6429eb3c1026b08e",
    "6cd276aad3b8bac8",
    "d588c1dd6525e22e",
    "b1fbccad8bb84462",
];
