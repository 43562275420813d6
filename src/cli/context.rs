//! What every verb needs: which pool, and its daemon.

use crate::base::{Error, Result};
use crate::daemon::{Client, Start};
use std::io;
use std::path::{Path, PathBuf};

/// An exit code: 0, or what the program run inside a container returned.
pub type Exit = u8;

/// Which pool is meant, and how to reach it.
#[derive(Clone, Debug)]
pub struct Context {
    pool: PathBuf,
}

impl Context {
    /// `pool`: as given by --pool or COWFS_POOL; none: the user's own place.
    pub fn new(pool: Option<PathBuf>) -> Result<Context> {
        let pool = match pool {
            Some(p) => p,
            None => default_pool()?,
        };
        let pool =
            std::path::absolute(&pool).map_err(|e| Error::io(pool.display().to_string(), e))?;
        Ok(Context { pool })
    }

    /// The pool's directory, absolute. It may not exist.
    pub fn pool(&self) -> &Path {
        &self.pool
    }

    /// Whether something is there that looks like a pool.
    pub fn exists(&self) -> bool {
        let there = |name: &str| self.pool.join(name).symlink_metadata().is_ok();
        // The second: a creation under way, or cut short.
        there("metadata") && !there("creating")
    }

    /// The daemon of an existing pool, started when none runs.
    pub fn client(&self) -> Result<Client> {
        Client::connect(&self.pool, Start::IfNeeded)
    }

    /// As `client`, for verbs that make something: a pool that does not exist is created first.
    pub fn client_creating(&self) -> Result<Client> {
        if !self.exists() {
            self.create()?;
        }
        self.client()
    }

    /// Makes the pool as `pool create` does without options, unless another command is faster.
    pub fn create(&self) -> Result<()> {
        let format = crate::pool::Format::default();
        let mut tries = 0;
        loop {
            match crate::pool::Pool::create_dir(&self.pool, &format, None, None) {
                Err(Error::Exists(_) | Error::Locked { .. }) if self.exists() => return Ok(()),
                Err(Error::Locked { .. }) if tries < 1000 => tries += 1,
                r => return r,
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
}

/// /var/lib/cowfs for root, $XDG_DATA_HOME/cowfs or ~/.local/share/cowfs for others.
fn default_pool() -> Result<PathBuf> {
    if rustix::process::geteuid().is_root() {
        return Ok("/var/lib/cowfs".into());
    }
    let absolute = |name: &str| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|p| p.is_absolute())
    };
    if let Some(data) = absolute("XDG_DATA_HOME") {
        return Ok(data.join("cowfs"));
    }
    match absolute("HOME") {
        Some(home) => Ok(home.join(".local/share/cowfs")),
        None => Err(Error::io(
            "no pool named and HOME is not set; use --pool DIR",
            io::ErrorKind::NotFound.into(),
        )),
    }
}

/// The daemon answered something else than what was asked.
pub fn unexpected(response: &crate::daemon::Response) -> Error {
    let shown: String = format!("{response:?}").chars().take(200).collect();
    Error::Invalid(format!("the daemon's answer is not understood: {shown}"))
}
