//! The daemon's log: bounded, one older file kept.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Longest log file, bytes; then it becomes `daemon.log.1`.
const LIMIT: u64 = 1 << 20;

/// Appends to a file and turns it over when it is long. Standard error follows, so that panics and
/// libraries land in the same file.
pub struct Bounded {
    path: PathBuf,
    file: File,
    length: u64,
}

impl Bounded {
    pub fn open(path: &Path) -> io::Result<Bounded> {
        let file = append(path)?;
        let length = file.metadata()?.len();
        let mut log = Bounded {
            path: path.to_path_buf(),
            file,
            length,
        };
        log.follow()?;
        Ok(log)
    }

    fn follow(&mut self) -> io::Result<()> {
        rustix::stdio::dup2_stderr(&self.file)?;
        rustix::stdio::dup2_stdout(&self.file)?;
        Ok(())
    }

    fn turn(&mut self) -> io::Result<()> {
        let mut old = self.path.clone().into_os_string();
        old.push(".1");
        std::fs::rename(&self.path, old)?;
        self.file = append(&self.path)?;
        self.length = 0;
        self.follow()
    }
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.length.saturating_add(bytes.len() as u64) > LIMIT {
            // A log that cannot be turned over is still a log.
            let _ = self.turn();
        }
        let n = self.file.write(bytes)?;
        self.length = self.length.saturating_add(n as u64);
        Ok(n)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)
}

/// Sets up logging: `COWFS_LOG`, else `RUST_LOG`, says what (default: info of ours). To the bounded
/// file, or to standard error.
pub fn init(file: Option<&Path>) {
    let filter = std::env::var("COWFS_LOG")
        .or_else(|_| std::env::var("RUST_LOG"))
        .unwrap_or_else(|_| "warn,cowfs=info".into());
    let mut builder = env_logger::Builder::new();
    builder.parse_filters(&filter);
    if let Some(path) = file {
        match Bounded::open(path) {
            Ok(log) => {
                builder.target(env_logger::Target::Pipe(Box::new(log)));
                builder.write_style(env_logger::WriteStyle::Never);
            }
            Err(e) => eprintln!("cowfs: {}: {e}", path.display()),
        }
    }
    let _ = builder.try_init();
    std::panic::set_hook(Box::new(|info| {
        let thread = std::thread::current();
        log::error!(
            "panic in thread {}: {info}\n{}",
            thread.name().unwrap_or("?"),
            std::backtrace::Backtrace::force_capture()
        );
    }));
}
