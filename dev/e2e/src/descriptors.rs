//! Descriptors of the test's own: its callers are connections, too.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Takes all that the system allows.
pub fn raise() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    // Without it the tests that need them say so.
    let _ = setrlimit(Resource::Nofile, raised);
}
