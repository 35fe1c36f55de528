//! What the measuring programs share: the results file, the tables made of it, and the frame of a program.

pub mod document;
pub mod program;
pub mod results;
