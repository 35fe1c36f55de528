//! The result in other programs' formats.

pub mod csv;
pub mod hgrm;
pub mod hlog;
pub mod svg;

use hdrhistogram::Histogram;

/// A histogram of nanoseconds with a name.
#[derive(Clone, Copy, Debug)]
pub struct Series<'a> {
    /// `response` or `service`.
    pub name: &'static str,
    /// The samples.
    pub histogram: &'a Histogram<u64>,
}
