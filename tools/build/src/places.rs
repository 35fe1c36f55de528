//! The source files that the panics of a PTX text name.
//!
//! A device has no room for a name in its answer and sends a hash. Every path that it can hash stands in the text: a panic has a
//! `core::panic::Location`, a constant of three words: the address of the path, its length, and line and column in one. That is
//! exact for a package's own files, for those of its dependencies and for the libraries' own, whatever form the compiler gives
//! their paths.

use std::collections::{BTreeMap, BTreeSet};

/// Words of a `Location`.
const LOCATION_WORDS: usize = 3;

/// The paths of the source files that `text` has locations in, in order. What cannot be read is left out: a panic there is told with
/// its hash.
pub fn panic_files(text: &str) -> Vec<String> {
    let constants = || text.lines().filter_map(constant);
    let bytes: BTreeMap<&str, &str> = constants()
        .filter(|constant| constant.element == ".b8")
        .map(|constant| (constant.name, constant.values))
        .collect();
    let mut paths = BTreeSet::new();
    for constant in constants().filter(|constant| matches!(constant.element, ".u64" | ".b64")) {
        let words: Vec<&str> = constant.values.split(',').map(str::trim).collect();
        // Several locations may stand in one constant, or one among other things.
        for location in words.windows(LOCATION_WORDS) {
            paths.extend(path(location, &bytes));
        }
    }
    paths.into_iter().collect()
}

/// A constant in the text: `.global .align 8 .u64 name[3] = {a, b, c};`
struct Constant<'a> {
    element: &'a str,
    name: &'a str,
    values: &'a str,
}

fn constant(line: &str) -> Option<Constant<'_>> {
    let (head, values) = line.split_once('=')?;
    if !head.contains(".global") && !head.contains(".const") {
        return None;
    }
    let (name, _) = head.trim().rsplit_once('[')?;
    let (head, name) = name.rsplit_once(' ')?;
    let element = head.split_whitespace().next_back()?;
    let values = values.trim().strip_prefix('{')?.strip_suffix("};")?;
    Some(Constant { element, name, values })
}

/// The path of what may be a location: an address, a length, and line and column, which count from 1.
fn path(location: &[&str], bytes: &BTreeMap<&str, &str>) -> Option<String> {
    let [address, length, place] = location else { return None };
    let name = address.strip_prefix("generic(")?.strip_suffix(')')?;
    let (length, place): (usize, u64) = (length.parse().ok()?, place.parse().ok()?);
    if length == 0 || place as u32 == 0 || place >> 32 == 0 {
        return None;
    }
    let path = bytes.get(name)?.split(',').map(|byte| byte.trim().parse().ok()).collect::<Option<Vec<u8>>>()?;
    let path = std::str::from_utf8(path.get(..length)?).ok()?;
    (!path.contains(char::is_control)).then(|| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn string(name: &str, text: &str) -> String {
        let bytes: Vec<String> = text.bytes().map(|byte| byte.to_string()).collect();
        // One longer than what is written, as for a text with a zero behind it.
        format!(".global .align 1 .b8 {name}[{}] = {{{}}};\n", bytes.len() + 1, bytes.join(", "))
    }

    #[test]
    fn every_file_of_a_location_is_found_once() {
        let text = string("a_0", "src/far/away.rs")
            + ".global .align 8 .u64 a_1[3] = {generic(a_0), 15, 4294967297};\n"
            + ".visible .global .align 8 .u64 a_2[3] = {generic(a_0), 15, 154618822766};\n"
            + &string("a_3", "/rustc/0/library/core/src/num/mod.rs and more")
            + ".global .align 8 .u64 a_4[7] = {1, generic(a_3), 36, 4294967297, generic(a_5), 6, 4294967298};\n"
            + &string("a_5", "größ");
        assert_eq!(panic_files(&text), ["/rustc/0/library/core/src/num/mod.rs", "größ", "src/far/away.rs"]);
    }

    #[test]
    fn what_is_no_location_names_no_file() {
        let text = string("a_0", "on demand")
            // A message: no place behind it.
            + ".global .align 8 .u64 a_1[2] = {generic(a_0), 9};\n"
            // No line, no column, no length, more bytes than there are, nobody's address, no number.
            + ".global .align 8 .u64 a_2[3] = {generic(a_0), 9, 4294967296};\n"
            + ".global .align 8 .u64 a_3[3] = {generic(a_0), 9, 7};\n"
            + ".global .align 8 .u64 a_4[3] = {generic(a_0), 0, 4294967297};\n"
            + ".global .align 8 .u64 a_5[3] = {generic(a_0), 10, 4294967297};\n"
            + ".global .align 8 .u64 a_6[3] = {generic(nobody), 9, 4294967297};\n"
            + ".global .align 8 .u64 a_7[3] = {generic(a_0), -9, 4294967297};\n"
            + ".global .align 1 .b8 a_8[4] = {255, 254, 1};\n"
            + ".global .align 8 .u64 a_9[3] = {generic(a_8), 3, 4294967297};\n"
            + ".shared .align 128 .b8 memory[49152];\n.global .u64 = {\nmov.u64 %rd1, a[0] = {};\n.global x] = {};\n";
        assert_eq!(panic_files(&text), [""; 0]);
        assert_eq!(panic_files(""), [""; 0]);
    }

    /// What the compiler really writes, as it is checked in.
    #[test]
    fn the_shipped_texts_name_the_shipped_actors() {
        for chip in crate::chip::SHIPPED {
            let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../device/ptx").join(chip.file_name);
            let files = panic_files(&std::fs::read_to_string(file).unwrap());
            assert!(files.contains(&"device/actors/src/faulty.rs".to_owned()), "{files:?}");
            assert!(files.iter().any(|file| file.starts_with("core-")), "the library's own: {files:?}");
            assert!(files.iter().all(|file| file.ends_with(".rs")), "{files:?}");
        }
    }
}
