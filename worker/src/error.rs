//! Why a worker cannot start, or had to end.

/// Why a worker cannot start, or had to end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A setting is missing or has a bad value, or a certificate cannot be read. The line names it, and what is allowed.
    #[error("{0}")]
    Settings(String),
    /// The signal handlers or the thread cannot be made, `ADMIN_ADDR` cannot be listened on, a handler was stuck for longer than
    /// `HANDLER_STUCK_AFTER`, or a task of the worker itself panicked.
    #[error(transparent)]
    Failed(Box<dyn std::error::Error + Send + Sync>),
}
