//! # Errors of the user's own
//!
//! What a state machine, a store or a transport that a user has written may
//! fail with.

/// An error of the user's own.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
