//! States that were kept outside: of this version, of others, damaged.

use proptest::prelude::*;
use tourbillon_device::{AdoptError, Context, Handler, NoError, Plain, State, SystemImage, actor, system};

#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
enum Grade {
    Plain = 1,
    Gold = 2,
}

/// Has no zero, a checked field, and a way from older versions.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, State)]
#[schema(3)]
struct Member {
    points: u64,
    grade: Grade,
    is_active: bool,
    filler: [u8; 6],
}

/// Version 1.
#[repr(C)]
#[derive(Clone, Copy, State)]
struct MemberOf1 {
    points: u32,
}

/// Version 2.
#[repr(C)]
#[derive(Clone, Copy, State)]
#[schema(2)]
struct MemberOf2 {
    points: u32,
    is_gold: bool,
    filler: [u8; 3],
}

fn upgrade(schema: u32, layout: u64, bytes: &[u8]) -> Option<Member> {
    let (points, is_gold) = match (schema, layout) {
        (1, MemberOf1::LAYOUT) => (MemberOf1::from_bytes(bytes)?.points, false),
        (2, MemberOf2::LAYOUT) => {
            let old = MemberOf2::from_bytes(bytes)?;
            (old.points, old.is_gold)
        }
        (99, _) => panic!("on demand"),
        _ => return None,
    };
    let grade = if is_gold { Grade::Gold } else { Grade::Plain };
    Some(Member { points: points.into(), grade, is_active: true, filler: [0; 6] })
}

#[repr(C)]
#[derive(Clone, Copy, State)]
struct Tally {
    sum: u64,
}

#[repr(C)]
#[derive(Clone, Copy, Plain)]
struct Earn(u64);

#[repr(C)]
#[derive(Clone, Copy, Plain)]
struct Add(u64);

impl Handler<Earn> for Member {
    type Reply = u64;

    fn handle(&mut self, message: &Earn, _context: &mut Context) -> Result<u64, NoError> {
        self.points += message.0;
        Ok(self.points)
    }
}

impl Handler<Add> for Tally {
    type Reply = u64;

    fn handle(&mut self, message: &Add, _context: &mut Context) -> Result<u64, NoError> {
        self.sum += message.0;
        Ok(self.sum)
    }
}

fn new_member(_key: u64) -> Member {
    Member { points: 0, grade: Grade::Plain, is_active: false, filler: [0; 6] }
}

actor!(Member { kind: 900, error: NoError, messages: { 0: Earn }, activate: new_member, upgrade: upgrade });
actor!(Tally { kind: 901, error: NoError, messages: { 0: Add } });

system! {
    /// Both.
    struct Club = [Member, Tally];
}

fn club() -> SystemImage {
    Club::image()
}

fn member(points: u64, grade: Grade, is_active: bool) -> Member {
    Member { points, grade, is_active, filler: [0; 6] }
}

#[test]
fn an_image_names_schema_and_layout_of_its_kinds() {
    let kinds =
        club().kinds.iter().map(|kind| (kind.number, kind.schema, kind.layout, kind.state_bytes)).collect::<Vec<_>>();
    assert_eq!(kinds, [(900, 3, Member::LAYOUT, 16), (901, 1, Tally::LAYOUT, 8)]);
}

#[test]
fn bytes_of_this_version_stay_as_they_are() {
    let kept = member(7, Grade::Gold, true);
    assert_eq!(club().adopt(900, 3, Member::LAYOUT, kept.as_bytes()).unwrap(), kept.as_bytes());
    assert_eq!(club().adopt(901, 1, Tally::LAYOUT, &9u64.to_ne_bytes()).unwrap(), 9u64.to_ne_bytes());
}

#[test]
fn older_versions_are_upgraded() {
    let kept = MemberOf1 { points: 5 };
    let bytes = club().adopt(900, 1, MemberOf1::LAYOUT, kept.as_bytes()).unwrap();
    assert_eq!(Member::from_bytes(&bytes), Some(member(5, Grade::Plain, true)));
    let kept = MemberOf2 { points: 6, is_gold: true, filler: [0; 3] };
    let bytes = club().adopt(900, 2, MemberOf2::LAYOUT, kept.as_bytes()).unwrap();
    assert_eq!(Member::from_bytes(&bytes), Some(member(6, Grade::Gold, true)));
}

#[test]
fn what_cannot_be_taken_over_is_named() {
    let club = club();
    let kept = member(7, Grade::Gold, true);
    let bytes = kept.as_bytes();
    let unknown = club.adopt(902, 1, 0, &[]);
    assert_eq!(unknown, Err(AdoptError::UnknownKind { system: "Club", kind: 902 }));

    // Another version, newer or older, and no hook.
    for found in [0, 2, u32::MAX] {
        let refused = club.adopt(901, found, Tally::LAYOUT, &[0; 8]);
        assert_eq!(refused, Err(AdoptError::NoUpgrade { actor: "Tally", found, expected: 1 }));
    }
    // The same version with another layout: with a hook and without, for the version says that there is nothing to do.
    let refused = club.adopt(901, 1, 77, &[0; 8]);
    assert_eq!(refused, Err(AdoptError::OtherLayout { actor: "Tally", schema: 1, found: 77, expected: Tally::LAYOUT }));
    let refused = club.adopt(900, 3, MemberOf2::LAYOUT, bytes);
    let expected = Member::LAYOUT;
    assert_eq!(
        refused,
        Err(AdoptError::OtherLayout { actor: "Member", schema: 3, found: MemberOf2::LAYOUT, expected })
    );

    for length in [0, 15, 17] {
        let refused = club.adopt(900, 3, Member::LAYOUT, &[1; 17][..length]);
        assert_eq!(refused, Err(AdoptError::WrongLength { actor: "Member", found: length, expected: 16 }));
    }
    for (at, byte) in [(8, 0), (8, 3), (9, 2)] {
        let mut bytes = bytes.to_vec();
        bytes[at] = byte;
        let refused = club.adopt(900, 3, Member::LAYOUT, &bytes);
        assert_eq!(refused, Err(AdoptError::InvalidValue { actor: "Member" }), "{byte} at {at}");
    }

    // Versions that the hook does not know, a layout that it does not know, and bytes that are none of that version.
    let refusals: [(u32, u64, &[u8]); 4] = [
        (4, Member::LAYOUT, bytes),
        (1, MemberOf2::LAYOUT, &[0; 8]),
        (1, MemberOf1::LAYOUT, &[0; 3]),
        (2, MemberOf2::LAYOUT, &[2; 8]),
    ];
    for (found, layout, bytes) in refusals {
        let refused = club.adopt(900, found, layout, bytes);
        assert_eq!(refused, Err(AdoptError::Refused { actor: "Member", found, expected: 3 }));
    }
    let panicked = club.adopt(900, 99, 0, &[]);
    assert_eq!(panicked, Err(AdoptError::Panicked { actor: "Member", found: 99, expected: 3 }));
}

#[test]
fn errors_name_cause_and_cure() {
    let text = |error: AdoptError| error.to_string();
    assert!(text(AdoptError::UnknownKind { system: "Club", kind: 9 }).contains("Club has no kind 9: add"));
    let text_of_other = text(AdoptError::OtherLayout { actor: "A", schema: 3, found: 1, expected: 2 });
    assert!(text_of_other.contains("#[schema(4)]") && text_of_other.contains("upgrade"), "{text_of_other}");
    assert!(text(AdoptError::NoUpgrade { actor: "A", found: 1, expected: 2 }).contains("give `actor!` an `upgrade`"));
    assert!(
        text(AdoptError::WrongLength { actor: "A", found: 1, expected: 2 })
            .contains("has 2 bytes, what was kept has 1")
    );
    assert!(text(AdoptError::InvalidValue { actor: "A" }).contains("no value of the state A"));
    assert!(text(AdoptError::Refused { actor: "A", found: 1, expected: 2 }).contains("refused a state of version 1"));
    assert!(
        text(AdoptError::Panicked { actor: "A", found: 1, expected: 2 }).contains("panicked at a state of version 1")
    );
}

proptest! {
    /// Whatever comes in, what comes out is a value of the state.
    #[test]
    fn nothing_but_values_comes_out(
        (kind, schema, layout, length) in prop_oneof![
            Just((900, 3, Member::LAYOUT, 16)),
            Just((900, 2, MemberOf2::LAYOUT, 8)),
            Just((900, 1, MemberOf1::LAYOUT, 4)),
            Just((901, 1, Tally::LAYOUT, 8)),
            (any::<u16>(), 0u32..5, any::<u64>(), 0usize..18),
        ],
        bytes in prop::collection::vec(0u8..4, 18),
        ) {
        if let Ok(adopted) = club().adopt(kind, schema, layout, &bytes[..length]) {
            match kind {
                900 => prop_assert!(Member::from_bytes(&adopted).is_some()),
                _ => prop_assert!(kind == 901 && Tally::from_bytes(&adopted).is_some()),
            }
        }
    }
}
