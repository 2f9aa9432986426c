//! The descriptor limit of the test process, which holds the connections of all callers.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the soft limit to the hard limit.
pub fn raise() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    // After a failure, tests that need more descriptors fail.
    let _ = setrlimit(Resource::Nofile, raised);
}
