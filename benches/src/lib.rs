//! What the measuring programs share: the results file and the tables made of it.

pub mod document;
pub mod results;
