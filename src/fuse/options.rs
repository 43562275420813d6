//! The words of `-o`, as mount(8) has them.

use crate::base::{Error, Result};
use serde::{Deserialize, Serialize};

/// When reading changes an access time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Atime {
    /// If it is older than the last change, or than a day: Linux' default, and what strictatime gets too.
    #[default]
    Relatime,
    Noatime,
    Strictatime,
}

/// Shows every file as belonging to these, whatever is stored. See `MountOptions::squash`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Squash {
    pub uid: Option<u32>,
    pub gid: Option<u32>,
}

/// How a volume is mounted; which volume is another matter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountOptions {
    pub read_only: bool,
    pub nodev: bool,
    pub nosuid: bool,
    pub noexec: bool,
    pub atime: Atime,
    pub nodiratime: bool,
    pub sync: bool,
    pub dirsync: bool,
    /// Others than the mounting user may enter; modes decide what they may do there. Unsaid: yes where the
    /// kernel lets us (root, or inside a user namespace), no through fusermount3.
    pub allow_other: Option<bool>,
    /// Files are shown as belonging to these; new files are stored as 0, the image's root, and
    /// changing an owner to the one shown changes nothing.
    pub squash: Squash,
    /// The source shown in the mount table, instead of the pool's directory or the name.
    pub fsname: Option<String>,
}

impl MountOptions {
    /// From words as given to `-o`: `ro,nosuid,uid=1000`. Later words win. Words that speak to mount(8)
    /// alone (`nofail`, `x-systemd.automount` ...) are passed over, others unknown are named in the error.
    pub fn parse(words: &str) -> Result<MountOptions> {
        let mut options = MountOptions::default();
        for word in words.split(',') {
            if !options.set(word.trim())? {
                return Err(Error::Invalid(format!(
                    "unknown mount option '{}'; known are ro, rw, [no]dev, [no]suid, [no]exec, [no]atime, [no]relatime, \
                     [no]strictatime, [no]diratime, [no]sync, dirsync, [no]allow_other, default_permissions, uid=, gid=, fsname=",
                    word.trim()
                )));
            }
        }
        Ok(options)
    }

    /// Takes in one word; answers whether it is known. Fails on a known word with a senseless value.
    pub fn set(&mut self, word: &str) -> Result<bool> {
        let (name, value) = match word.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (word, None),
        };
        match (name, value) {
            ("uid", Some(v)) => self.squash.uid = Some(id(name, v)?),
            ("gid", Some(v)) => self.squash.gid = Some(id(name, v)?),
            ("fsname", Some("")) => {
                return Err(Error::Invalid("mount option fsname= needs a name".into()));
            }
            ("fsname", Some(v)) => self.fsname = Some(v.into()),
            ("uid" | "gid" | "fsname", None) => {
                return Err(Error::Invalid(format!(
                    "mount option '{name}' needs a value: {name}=..."
                )));
            }
            ("comment", _) => {}
            (_, Some(_)) => return Ok(word.starts_with("x-") || word.starts_with("X-")),
            (word, None) => return Ok(self.set_flag(word)),
        }
        Ok(true)
    }

    fn set_flag(&mut self, word: &str) -> bool {
        match word {
            "ro" => self.read_only = true,
            "rw" => self.read_only = false,
            "dev" => self.nodev = false,
            "nodev" => self.nodev = true,
            "suid" => self.nosuid = false,
            "nosuid" => self.nosuid = true,
            "exec" => self.noexec = false,
            "noexec" => self.noexec = true,
            "noatime" => self.atime = Atime::Noatime,
            "strictatime" => self.atime = Atime::Strictatime,
            "atime" | "relatime" | "norelatime" | "nostrictatime" => self.atime = Atime::Relatime,
            "nodiratime" => self.nodiratime = true,
            "diratime" => self.nodiratime = false,
            "sync" => self.sync = true,
            "async" | "nosync" => (self.sync, self.dirsync) = (false, false),
            "dirsync" => self.dirsync = true,
            "allow_other" => self.allow_other = Some(true),
            "noallow_other" => self.allow_other = Some(false),
            // What `user` and its like imply, unless a later word says otherwise: mount(8).
            "user" | "users" => (self.noexec, self.nosuid, self.nodev) = (true, true, true),
            "owner" | "group" => (self.nosuid, self.nodev) = (true, true),
            "default_permissions" | "defaults" | "" => {}
            "auto" | "noauto" | "nofail" | "_netdev" | "nouser" | "nogroup" | "noowner"
            | "silent" | "loud" => {}
            word => return word.starts_with("x-") || word.starts_with("X-"),
        }
        true
    }

    /// The words fusermount3 takes; it adds nosuid and nodev itself for ordinary users.
    pub(super) fn fusermount_words(&self, source: &str) -> String {
        let mut words = vec![
            format!("fsname={}", escape(source)),
            "subtype=cowfs".into(),
            "default_permissions".into(),
        ];
        let mut flag = |on: bool, word: &str| {
            if on {
                words.push(word.into());
            }
        };
        flag(self.read_only, "ro");
        flag(self.nodev, "nodev");
        flag(self.nosuid, "nosuid");
        flag(self.noexec, "noexec");
        flag(self.atime == Atime::Noatime, "noatime");
        flag(self.sync, "sync");
        flag(self.dirsync, "dirsync");
        flag(self.allow_other == Some(true), "allow_other");
        words.join(",")
    }
}

/// Commas part words for fusermount3 unless a backslash stands before them.
fn escape(source: &str) -> String {
    source.replace('\\', "\\\\").replace(',', "\\,")
}

fn id(name: &str, value: &str) -> Result<u32> {
    match value.parse::<u32>() {
        // The kernel keeps the last one for "no id".
        Ok(id) if id != u32::MAX => Ok(id),
        _ => Err(Error::Invalid(format!(
            "mount option {name}={value}: not a numeric id"
        ))),
    }
}

#[cfg(test)]
#[path = "options_tests.rs"]
mod tests;
