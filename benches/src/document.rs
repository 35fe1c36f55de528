//! Tables in documents: what stands between two marks is written by a program.

use std::io::Write;
use std::path::Path;

/// `document` with what stands between the lines `marks` replaced by `text`.
///
/// # Errors
/// The marks are not there, in their order.
pub fn insert(document: &str, marks: [&str; 2], text: &str) -> Result<String, String> {
    let [begin, end] = marks;
    let missing = || format!("the document needs the lines `{begin}` and `{end}`, in this order");
    let (before, rest) = document.split_once(begin).ok_or_else(missing)?;
    let (_, after) = rest.split_once(end).ok_or_else(missing)?;
    Ok(format!("{before}{begin}\n{}\n{end}{after}", text.trim_end()))
}

/// Prints `text`, or puts it between the marks of the document at `into`.
///
/// # Errors
/// The document cannot be read or written, or has no marks, or standard output is closed; the text names it.
pub fn put(text: &str, marks: [&str; 2], into: Option<&Path>) -> Result<(), String> {
    let Some(path) = into else {
        let written = std::io::stdout().lock().write_all(text.as_bytes());
        return written.map_err(|error| format!("standard output: {error}"));
    };
    let named = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let document = std::fs::read_to_string(path).map_err(|error| named(&error))?;
    let changed = insert(&document, marks, text).map_err(|error| named(&error))?;
    std::fs::write(path, changed).map_err(|error| named(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARKS: [&str; 2] = ["<!-- begin -->", "<!-- end -->"];

    #[test]
    fn only_what_is_between_the_marks_changes() {
        let document = format!("a\n{}\nold\n{}\nb\n", MARKS[0], MARKS[1]);
        let once = insert(&document, MARKS, "new\n").unwrap();
        assert_eq!(once, format!("a\n{}\nnew\n{}\nb\n", MARKS[0], MARKS[1]));
        assert_eq!(insert(&once, MARKS, "new\n").unwrap(), once);
    }

    #[test]
    fn documents_without_marks_are_named() {
        assert!(insert("nothing", MARKS, "new").is_err());
        let path = std::env::temp_dir().join(format!("tourbillon-document-{}.md", std::process::id()));
        std::fs::write(&path, MARKS[0]).unwrap();
        let error = put("new", MARKS, Some(&path)).unwrap_err();
        std::fs::remove_file(&path).unwrap();
        assert!(error.contains("tourbillon-document") && error.contains(MARKS[1]), "{error}");
        assert!(put("new", MARKS, Some(Path::new("no-such-document.md"))).unwrap_err().contains("no-such-document.md"));
    }
}
