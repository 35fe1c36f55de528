//! Mistakes that are found when a crate of actors is compiled, and what is said about them.
//!
//! Each file in `mistakes` makes one, or some of one sort; beside it stands what the compiler says. The words are those of the derives, the
//! traits and the macros; around them is the compiler's own, and a newer one may put it otherwise: then look at the difference, and
//! record it with `TRYBUILD=overwrite cargo test -p tourbillon-device --test mistakes`. Needs no network.
//!
//! What can only be seen in what comes out of the device compiler, recursion above all, is found there: `tourbillon_build::system`.

/// Compiles all of them.
#[test]
fn mistakes_are_explained() {
    // The compiler that the texts were recorded with wraps no line and colours none.
    trybuild::TestCases::new().compile_fail("tests/mistakes/*.rs");
}
