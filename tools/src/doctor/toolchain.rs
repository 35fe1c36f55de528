//! The compiler for device code: needed only to build actors of one's own for a GPU.

use serde::Serialize;

/// On Debian and its kin.
const INSTALL_DEBIAN: &str = "apt-get install --no-install-recommends rustc-web cargo-web rust-web-src rust-web-llvm";
/// Elsewhere.
const INSTALL_RUSTUP: &str = "rustup toolchain install nightly --component rust-src";

/// What was found.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Toolchain {
    /// Path of the compiler.
    rustc: Option<String>,
    /// What it says of itself.
    version: Option<String>,
    /// Why there is none.
    tried: Option<String>,
    /// How to get one; none when there is one.
    pub(super) install: Option<&'static str>,
}

impl Toolchain {
    /// Looks for one where the build of device crates would.
    pub(super) fn find() -> Self {
        match tourbillon_build::Toolchain::find() {
            Ok(found) => Self {
                rustc: Some(found.rustc.display().to_string()),
                version: Some(found.version),
                tried: None,
                install: None,
            },
            Err(error) => {
                let is_debian = std::path::Path::new("/etc/debian_version").exists();
                let install = if is_debian { INSTALL_DEBIAN } else { INSTALL_RUSTUP };
                Self { rustc: None, version: None, tried: Some(error.tried), install: Some(install) }
            }
        }
    }
}

impl std::fmt::Display for Toolchain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (&self.rustc, &self.version) {
            (Some(rustc), Some(version)) => write!(f, "{rustc}: {version}, with the sources of core"),
            _ => write!(f, "none for device code ({})", self.tried.as_deref().unwrap_or("not looked for")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_toolchain_or_a_way_to_get_one_is_named() {
        let found = Toolchain::find();
        assert_ne!(found.rustc.is_some(), found.install.is_some());
        assert_eq!(found.tried.is_some(), found.install.is_some());
        assert!(!found.to_string().is_empty());
    }
}
