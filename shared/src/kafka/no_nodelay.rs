//! Where descriptors cannot be looked through: `TCP_NODELAY` never counts as set.

pub(super) fn set() -> bool {
    false
}

pub(super) fn is_set() -> bool {
    false
}
