//! Seeded faults for the mutation tests.
//!
//! A fault stands beside the line that it breaks, as `if mutant!("name") { wrong } else { right }`. Without the
//! feature `mutants` the condition is the constant `false` and nothing of it is compiled.

/// Whether the fault of this name was chosen by the environment variable `TOURBILLON_MUTANT`.
#[cfg(all(feature = "mutants", not(target_arch = "nvptx64")))]
pub fn is_active(name: &str) -> bool {
    static CHOSEN: std::sync::OnceLock<Option<std::string::String>> = std::sync::OnceLock::new();
    CHOSEN.get_or_init(|| std::env::var("TOURBILLON_MUTANT").ok()).as_deref() == Some(name)
}

/// Without the feature no fault is ever active.
#[cfg(not(all(feature = "mutants", not(target_arch = "nvptx64"))))]
#[inline(always)]
pub const fn is_active(_name: &str) -> bool {
    false
}

/// `true` when the named fault is seeded. See [`mutants`](crate::mutants).
#[macro_export]
#[doc(hidden)]
macro_rules! mutant {
    ($name:literal) => {
        $crate::mutants::is_active($name)
    };
}
