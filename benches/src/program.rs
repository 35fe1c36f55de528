//! The frame of a measuring program: rendering instead of measuring, an end to what hangs, and how it ends.

use std::fmt::Display;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Subcommand;

use crate::document;

/// Exit code of a program that met something that hangs.
pub const EXIT_CODE_STUCK: i32 = 3;

/// What a measuring program does instead of measuring.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Print the table of results files, or put it into a document.
    Render {
        /// Results files.
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// The document, such as README.md.
        #[arg(long, value_name = "FILE")]
        into: Option<PathBuf>,
    },
}

impl Command {
    /// Prints what `tables` makes of the files, or puts it between the marks of the document.
    ///
    /// # Errors
    /// What `tables` says, and as [`document::put`].
    pub fn run(&self, tables: fn(&[PathBuf]) -> Result<String, String>, marks: [&str; 2]) -> Result<(), String> {
        let Self::Render { files, into } = self;
        document::put(&tables(files)?, marks, into.as_deref())
    }
}

/// Ends the process after `time` and says so: a thread that waits for what never comes can be ended in no other way.
/// `left` says what there is of the results then.
///
/// # Errors
/// When no thread can be started.
pub fn give_up_after(time: Duration, program: &'static str, left: &'static str) -> std::io::Result<()> {
    let watch = move || {
        std::thread::sleep(time);
        eprintln!("{program}: not done within {time:?}; {left}");
        std::process::exit(EXIT_CODE_STUCK);
    };
    std::thread::Builder::new().name("deadline".into()).spawn(watch).map(drop)
}

/// How a program ends; says on standard error why it failed.
pub fn exit_code(program: &str, outcome: Result<(), impl Display>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{program}: {error}");
            ExitCode::FAILURE
        }
    }
}
