//! Exit codes of mount(8), and what those of cowfs become.

/// Wrong words, or not permitted.
pub const USAGE: u8 = 1;
/// Out of memory, cannot fork, no program.
pub const SYSTEM: u8 = 2;
/// The user's Ctrl-C.
pub const INTERRUPTED: u8 = 8;
/// Mounting or unmounting failed.
pub const FAILED: u8 = 32;

/// Why we end otherwise than well.
#[derive(Debug, PartialEq, Eq)]
pub struct Exit {
    pub code: u8,
    /// None: cowfs has said it already.
    pub line: Option<String>,
}

impl Exit {
    pub fn new(code: u8, line: impl Into<String>) -> Exit {
        Exit {
            code,
            line: Some(line.into()),
        }
    }

    /// From cowfs' end: `code`, or none when a signal ended it.
    pub fn of_cowfs(code: Option<i32>, signal: Option<i32>) -> Result<(), Exit> {
        let code = match (code, signal) {
            (Some(0), _) => return Ok(()),
            (Some(2), _) => USAGE,
            (None, Some(libc::SIGINT)) => INTERRUPTED,
            (Some(130), _) => INTERRUPTED,
            _ => FAILED,
        };
        Err(Exit { code, line: None })
    }
}
