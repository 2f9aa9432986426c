//! Why a worker cannot start, or had to end.

/// Why a worker cannot start, or had to end.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A setting is missing or has a bad value. The line names it, and what is allowed.
    #[error("{0}")]
    Settings(String),
    /// The signal handlers or the thread cannot be made, `ADMIN_ADDR` cannot be listened on, a certificate cannot be read, or a
    /// handler was stuck for longer than `HANDLER_STUCK_AFTER`.
    #[error(transparent)]
    Failed(Box<dyn std::error::Error + Send + Sync>),
}
