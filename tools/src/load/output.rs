//! Files for the result, opened before the run: a run of minutes must not end in a path that cannot be written.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use super::error::LoadError;

/// A file that the result will be written to. What it held stays until then; a new file is removed again when nothing
/// is written.
#[derive(Debug)]
pub struct Output {
    option: &'static str,
    path: PathBuf,
    file: File,
    is_new: bool,
    is_written: bool,
}

impl Output {
    /// Opens the file that `option` names.
    ///
    /// # Errors
    /// [`LoadError::Output`], [`LoadError::NoStandardOutput`].
    pub fn open(option: &'static str, path: &Path) -> Result<Self, LoadError> {
        if path.as_os_str() == "-" {
            return Err(LoadError::NoStandardOutput { option });
        }
        let is_new = !path.exists();
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(path);
        let path = path.to_owned();
        match file {
            Ok(file) => Ok(Self { option, path, file, is_new, is_written: false }),
            Err(source) => Err(LoadError::Output { option, path, source }),
        }
    }

    /// Writes the file anew.
    ///
    /// # Errors
    /// [`LoadError::Output`] with what the system says, or what `write` says.
    pub fn write(mut self, write: impl FnOnce(&mut dyn Write) -> Result<(), LoadError>) -> Result<(), LoadError> {
        self.is_written = true;
        let mut writer = BufWriter::new(&self.file);
        let outcome = match self.file.metadata() {
            // Devices and pipes have no length.
            Ok(about) if about.is_file() => self.file.set_len(0).map_err(LoadError::Io),
            about => about.map(drop).map_err(LoadError::Io),
        };
        let outcome = outcome.and_then(|()| write(&mut writer)).and_then(|()| Ok(writer.flush()?));
        outcome.map_err(|error| match error {
            LoadError::Io(source) => LoadError::Output { option: self.option, path: self.path.clone(), source },
            other => other,
        })
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if self.is_new && !self.is_written {
            // Nothing is lost when it stays.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Refuses two options that name one file.
///
/// # Errors
/// [`LoadError::OutputTwice`].
pub fn check_apart(outputs: &[(&'static str, &Path)]) -> Result<(), LoadError> {
    // Files may not be there yet, so that only the name of the folder can be looked up.
    let place = |path: &Path| {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        Some((folder.canonicalize().ok()?, path.file_name()?.to_owned()))
    };
    for (i, &(second, path)) in outputs.iter().enumerate() {
        let same = |other: &Path| other == path || (place(other).is_some() && place(other) == place(path));
        if let Some(&(first, _)) = outputs[..i].iter().find(|(_, other)| same(other)) {
            return Err(LoadError::OutputTwice { first, second, path: path.to_owned() });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn say(text: &'static str) -> impl FnOnce(&mut dyn Write) -> Result<(), LoadError> {
        move |writer| Ok(writer.write_all(text.as_bytes())?)
    }

    #[test]
    fn a_file_is_replaced_only_when_it_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("result");
        drop(Output::open("--csv", &path).unwrap());
        assert!(!path.exists(), "a run that failed leaves no empty file");
        Output::open("--csv", &path).unwrap().write(say("something long")).unwrap();
        drop(Output::open("--csv", &path).unwrap());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "something long");
        Output::open("--csv", &path).unwrap().write(say("short")).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "short");
    }

    #[test]
    fn what_cannot_be_written_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        for path in [folder.path().to_owned(), folder.path().join("no/such/folder")] {
            let error = Output::open("--svg", &path).unwrap_err();
            assert!(matches!(error, LoadError::Output { option: "--svg", .. }), "{error}");
            assert!(error.to_string().contains(&path.display().to_string()), "{error}");
        }
        assert!(matches!(Output::open("--svg", Path::new("-")), Err(LoadError::NoStandardOutput { .. })));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_device_is_an_error_and_not_silence() {
        let error = Output::open("--csv", Path::new("/dev/full")).unwrap().write(say("x")).unwrap_err();
        assert!(matches!(error, LoadError::Output { .. }) && error.to_string().contains("/dev/full"), "{error}");
        assert!(Path::new("/dev/full").exists());
        Output::open("--csv", Path::new("/dev/null")).unwrap().write(say("x")).unwrap();
    }

    #[test]
    fn one_file_is_not_written_twice() {
        let folder = tempfile::tempdir().unwrap();
        let (a, b) = (folder.path().join("a"), folder.path().join("b"));
        let again = folder.path().join(".").join("a");
        check_apart(&[("--csv", &a), ("--svg", &b)]).unwrap();
        let error = check_apart(&[("--csv", &a), ("--svg", &b), ("--json", &again)]).unwrap_err();
        assert!(matches!(error, LoadError::OutputTwice { first: "--csv", second: "--json", .. }), "{error}");
    }
}
