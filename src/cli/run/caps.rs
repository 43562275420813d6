//! Capabilities: podman's default set, changed by --cap-add and --cap-drop.

use crate::base::{Error, Result};

/// In the order of their numbers (linux/capability.h).
pub const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

const DEFAULT: [&str; 11] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

/// A set of capabilities, one bit each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caps(pub u64);

impl Caps {
    /// What podman gives a container.
    pub fn usual() -> Caps {
        Caps(
            DEFAULT
                .iter()
                .filter_map(|n| NAMES.iter().position(|m| m == n))
                .fold(0, |set, bit| set | 1 << bit),
        )
    }

    pub fn all() -> Caps {
        Caps((1 << NAMES.len()) - 1)
    }

    /// The usual set, with what is added and without what is dropped; `ALL` means all of them.
    pub fn chosen(add: &[String], drop: &[String]) -> Result<Caps> {
        let mut set = Caps::usual();
        if drop.iter().any(|d| d.eq_ignore_ascii_case("all")) {
            set = Caps(0);
        }
        for name in add {
            set.0 |= bits(name)?;
        }
        for name in drop.iter().filter(|d| !d.eq_ignore_ascii_case("all")) {
            set.0 &= !bits(name)?;
        }
        Ok(set)
    }

    pub fn has(self, number: usize) -> bool {
        number < 64 && self.0 >> number & 1 == 1
    }

    /// `CAP_CHOWN` and so on, as OCI bundles name them.
    pub fn names(self) -> Vec<String> {
        NAMES
            .iter()
            .enumerate()
            .filter(|(i, _)| self.has(*i))
            .map(|(_, n)| format!("CAP_{n}"))
            .collect()
    }
}

fn bits(word: &str) -> Result<u64> {
    let name = word.to_ascii_uppercase();
    let name = name.strip_prefix("CAP_").unwrap_or(&name);
    if name == "ALL" {
        return Ok(Caps::all().0);
    }
    match NAMES.iter().position(|n| *n == name) {
        Some(i) => Ok(1 << i),
        None => Err(Error::Invalid(format!(
            "'{word}' is no capability; see capabilities(7)"
        ))),
    }
}

#[cfg(test)]
#[path = "caps_tests.rs"]
mod tests;
