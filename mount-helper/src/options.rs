//! The words of `-o` and of fstab's fourth field: which are ours, which cowfs', which mount(8)'s alone.

use crate::exit::Exit;
use crate::usage;

#[derive(Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// For `cowfs mount -o`, in their order, those that `user` and its like imply among them.
    pub words: Vec<String>,
    pub pool: Option<String>,
    /// `container=`, `image=`, `snapshot=`, as written.
    pub volume: Option<String>,
    /// Change the options of what is mounted.
    pub remount: bool,
}

/// What concerns mount(8), fstab or systemd alone, or what every file system has and ours need not do.
const PASSED_OVER: [&str; 27] = [
    "defaults",
    "auto",
    "noauto",
    "nofail",
    "fail",
    "_netdev",
    "_rnetdev",
    "nouser",
    "nousers",
    "noowner",
    "nogroup",
    "silent",
    "loud",
    "quiet",
    "mand",
    "nomand",
    "iversion",
    "noiversion",
    "lazytime",
    "nolazytime",
    "comment",
    "nocomment",
    "symfollow",
    "private",
    "rprivate",
    "bg",
    "fg",
];
/// What `cowfs mount` knows.
const KNOWN: [&str; 23] = [
    "ro",
    "rw",
    "dev",
    "nodev",
    "suid",
    "nosuid",
    "exec",
    "noexec",
    "sync",
    "async",
    "dirsync",
    "nosync",
    "atime",
    "noatime",
    "relatime",
    "norelatime",
    "strictatime",
    "nostrictatime",
    "diratime",
    "nodiratime",
    "allow_other",
    "noallow_other",
    "default_permissions",
];
const KNOWN_VALUES: [&str; 3] = ["uid", "gid", "fsname"];

impl Options {
    /// `sloppy`: unknown words are passed over instead of refused.
    pub fn parse(text: &str, sloppy: bool) -> Result<Options, Exit> {
        let mut out = Options::default();
        for word in text.split(',').map(str::trim).filter(|w| !w.is_empty()) {
            let (name, value) = match word.split_once('=') {
                Some((n, v)) => (n, Some(v)),
                None => (word, None),
            };
            match (name, value) {
                // `pool` says where, the next three what.
                ("pool", Some(dir)) if dir.starts_with('/') => out.pool = Some(dir.into()),
                ("pool", _) => {
                    return Err(usage("option 'pool' needs an absolute path: pool=/DIR"));
                }
                ("container" | "image" | "snapshot", Some(v)) if !v.is_empty() => {
                    if out.volume.replace(word.into()).is_some() {
                        return Err(usage(
                            "name one volume only: container=, image= or snapshot=",
                        ));
                    }
                }
                ("container" | "image" | "snapshot", _) => {
                    return Err(usage(format!("option '{name}' needs a name: {name}=...")));
                }
                // mount(8) passes `user` as `user=NAME` too.
                ("user" | "users", _) => out.imply(&["noexec", "nosuid", "nodev"]),
                ("owner" | "group", None) => out.imply(&["nosuid", "nodev"]),
                ("remount", None) => out.remount = true,
                ("comment", Some(_)) => {}
                (n, _) if n.starts_with("x-") || n.starts_with("X-") => {}
                (n, None) if PASSED_OVER.contains(&n) => {}
                (n, None) if KNOWN.contains(&n) => out.words.push(word.into()),
                (n, Some(_)) if KNOWN_VALUES.contains(&n) => out.words.push(word.into()),
                _ if sloppy => {}
                _ => return Err(usage(format!("unknown option '{word}'"))),
            }
        }
        Ok(out)
    }

    fn imply(&mut self, words: &[&str]) {
        self.words.extend(words.iter().map(|w| (*w).to_owned()));
    }

    /// The last word of those decides.
    pub fn is(&self, yes: &str, no: &str) -> bool {
        self.words
            .iter()
            .rev()
            .find(|w| *w == yes || *w == no)
            .is_some_and(|w| w == yes)
    }
}

#[cfg(test)]
#[path = "options_tests.rs"]
mod tests;
