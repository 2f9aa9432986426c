//! What threads share and lock: the real thing, or the model of it under the Cargo feature `loom`.
//!
//! A feature that only the tests of this crate obey, and no `--cfg loom`: that would change tokio, too.

#[cfg(not(all(test, feature = "loom")))]
pub(crate) use {parking_lot::Mutex, std::sync::Arc};

#[cfg(all(test, feature = "loom"))]
pub(crate) use self::model::Mutex;
#[cfg(all(test, feature = "loom"))]
pub(crate) use loom::sync::Arc;

#[cfg(all(test, feature = "loom"))]
mod model {
    use loom::sync::MutexGuard;

    /// Loom's, in the shape of `parking_lot`'s.
    #[derive(Debug)]
    pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

    // === impl Mutex ===

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(loom::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            self.0.lock().expect("it is poisoned by what fails the model anyway")
        }
    }
}
