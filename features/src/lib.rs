//! One feature set of third-party packages for all crates of the workspace: see `.config/hakari.toml`.
