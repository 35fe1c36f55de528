//! The first line of a PTX text, and whether the text still fits its sources.

use std::path::Path;

use crate::chip::Chip;
use crate::source::source_hash;

const MARK: &str = "// tourbillon-ptx source=";
const TOOLCHAIN: &str = " toolchain=";
const FLAGS: &str = " flags=";

/// The first line of a text: what it was made from and with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PtxHeader {
    /// [`source_hash`] at the time.
    pub source: String,
    /// The compiler's own line about its version.
    pub toolchain: String,
    /// The compiler's flags, separated by spaces.
    pub flags: String,
}

impl PtxHeader {
    /// The header of a text, or nothing when the text has none.
    pub fn of(text: &str) -> Option<Self> {
        let line = text.lines().next()?.strip_prefix(MARK)?;
        let (source, rest) = line.split_once(TOOLCHAIN)?;
        let (toolchain, flags) = rest.split_once(FLAGS)?;
        Some(Self { source: source.into(), toolchain: toolchain.into(), flags: flags.into() })
    }

    /// The line, without its end.
    pub fn line(&self) -> String {
        format!("{MARK}{}{TOOLCHAIN}{}{FLAGS}{}", self.source, self.toolchain, self.flags)
    }
}

/// Whether a PTX text fits the sources beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PtxState {
    /// It was made from these sources.
    Fresh,
    /// It was made from other sources, by hand, or by another program.
    Stale {
        /// The hash in the text, or what stands in its place.
        found: String,
        /// The hash of the sources, or why there is none.
        expected: String,
    },
    /// There is no such file.
    Missing,
}

/// The state of the text in `ptx_file` against the sources below `workspace_root`.
pub fn ptx_state(workspace_root: &Path, ptx_file: &Path) -> PtxState {
    let text = match std::fs::read_to_string(ptx_file) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return PtxState::Missing,
        Err(error) => return PtxState::Stale { found: format!("unreadable: {error}"), expected: String::new() },
    };
    let header = PtxHeader::of(&text);
    let name = ptx_file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let flags = match (Chip::of_file_name(&name), &header) {
        (Some(chip), _) => chip.flags(),
        (None, Some(header)) => header.flags.split(' ').map(str::to_owned).collect(),
        (None, None) => Vec::new(),
    };
    // The version is taken from the text: who only uses the text may have no device toolchain.
    let toolchain = header.as_ref().map(|header| header.toolchain.as_str()).unwrap_or_default();
    let found = header.as_ref().map_or_else(|| "no header".to_owned(), |header| header.source.clone());
    match source_hash(workspace_root, toolchain, &flags) {
        Ok(expected) if expected == found => PtxState::Fresh,
        Ok(expected) => PtxState::Stale { found, expected },
        Err(error) => PtxState::Stale { found, expected: format!("sources unreadable: {error}") },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chip::SHIPPED;
    use crate::source::tests::workspace;

    fn header(workspace: &Path) -> PtxHeader {
        let flags = SHIPPED[0].flags();
        let toolchain = "rustc 1.96.0 (abc 2026-05-25)";
        let source = source_hash(workspace, toolchain, &flags).unwrap();
        PtxHeader { source, toolchain: toolchain.into(), flags: flags.join(" ") }
    }

    #[test]
    fn headers_round_trip() {
        let folder = workspace();
        let header = header(folder.path());
        assert_eq!(PtxHeader::of(&format!("{}\n.version 8.4\n", header.line())), Some(header));
        assert_eq!(PtxHeader::of(".version 8.4\n"), None);
        assert_eq!(PtxHeader::of(""), None);
    }

    #[test]
    fn a_change_of_a_source_makes_the_text_stale() {
        let folder = workspace();
        let file = folder.path().join(SHIPPED[0].file_name);
        assert_eq!(ptx_state(folder.path(), &file), PtxState::Missing);
        let before = header(folder.path());
        std::fs::write(&file, before.line()).unwrap();
        assert_eq!(ptx_state(folder.path(), &file), PtxState::Fresh);
        std::fs::write(folder.path().join("shared/src/lib.rs"), "two").unwrap();
        let expected = header(folder.path()).source;
        assert_eq!(ptx_state(folder.path(), &file), PtxState::Stale { found: before.source, expected });
    }

    #[test]
    fn a_text_under_another_chips_name_is_stale() {
        let folder = workspace();
        let file = folder.path().join(SHIPPED[1].file_name);
        std::fs::write(&file, header(folder.path()).line()).unwrap();
        assert!(matches!(ptx_state(folder.path(), &file), PtxState::Stale { .. }));
    }

    #[test]
    fn a_text_without_header_is_stale() {
        let folder = workspace();
        let file = folder.path().join(SHIPPED[0].file_name);
        std::fs::write(&file, ".version 8.4").unwrap();
        assert!(matches!(ptx_state(folder.path(), &file), PtxState::Stale { found, .. } if found == "no header"));
    }
}
