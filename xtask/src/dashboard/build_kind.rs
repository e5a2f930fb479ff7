//! Kinds of dashboard builds, and cargo's profile for each.

/// Kind of a dashboard build.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BuildKind {
    /// As small as possible, for releases and tests.
    Release,
    /// In a fraction of the time, for a server on the same machine, from which a few megabytes arrive at once.
    Quick,
}

impl BuildKind {
    /// Name of the profile in Cargo.toml.
    pub(super) const fn profile(self) -> &'static str {
        match self {
            Self::Release => "wasm-release",
            Self::Quick => "wasm-quick",
        }
    }
}
