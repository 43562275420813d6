//! Starting a pool's daemon: detached from the shell, session and unit that needed it.

use crate::base::Result;
use std::path::Path;

/// Starts a daemon and waits until it serves or says why it cannot.
pub(super) fn daemon(pool: &Path) -> Result<()> {
    let _ = pool;
    todo!()
}
