//! Who the program runs as: `USER[:GROUP]`, names or numbers, resolved in the container's own
//! /etc/passwd and /etc/group (never the host's), by the rules of podman and runc.

use crate::base::{Error, Result};

/// Ids and home of the program.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    pub uid: u32,
    pub gid: u32,
    /// Additional groups.
    pub groups: Vec<u32>,
    pub home: String,
}

/// Largest id that is accepted: the kernel keeps -1 for "none", tools treat the upper half as negative.
const ID_MAX: u32 = i32::MAX as u32;
/// Additional groups taken from a group file: the kernel's own limit.
const GROUPS_MAX: usize = 65536;

struct Entry<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

/// Resolves `words` (empty: root) in the text of the two files.
pub fn resolve(words: &str, passwd: &str, group: &str) -> Result<User> {
    let (user, own_group) = match words.split_once(':') {
        Some((u, g)) => (u, Some(g).filter(|g| !g.is_empty())),
        None => (words, None),
    };
    let user = if user.is_empty() { "0" } else { user };
    let entries = || passwd.lines().filter_map(entry);
    let number: Option<u32> = user.parse().ok().filter(|n| *n <= ID_MAX);
    // A name that looks like a number is a name first.
    let found = entries()
        .find(|e| e.name == user)
        .or_else(|| number.and_then(|n| entries().find(|e| e.uid == n)));
    let mut out = match (&found, number) {
        (Some(e), _) => User {
            uid: e.uid,
            gid: e.gid,
            groups: vec![],
            home: e.home.into(),
        },
        (None, Some(uid)) => User {
            uid,
            gid: 0,
            groups: vec![],
            home: String::new(),
        },
        (None, None) => {
            return Err(Error::NotFound(format!(
                "the container has no user '{user}' in its /etc/passwd; use a number, or --user root"
            )));
        }
    };
    if out.home.is_empty() {
        out.home = "/".into();
    }
    match own_group {
        Some(name) => out.gid = group_id(name, group)?,
        None => {
            if let Some(e) = found {
                out.groups = groups_of(e.name, group);
            }
        }
    }
    Ok(out)
}

fn entry(line: &str) -> Option<Entry<'_>> {
    let mut f = line.split(':');
    let name = f.next().filter(|n| !n.is_empty())?;
    let uid = f.nth(1)?.parse().ok().filter(|n| *n <= ID_MAX)?;
    let gid = f.next()?.parse().ok().filter(|n| *n <= ID_MAX)?;
    let home = f.nth(1).unwrap_or_default();
    Some(Entry {
        name,
        uid,
        gid,
        home,
    })
}

/// Name, id and members of a line of the group file.
fn group_line(line: &str) -> Option<(&str, u32, &str)> {
    let mut f = line.split(':');
    let name = f.next().filter(|n| !n.is_empty())?;
    let gid = f.nth(1)?.parse().ok().filter(|n| *n <= ID_MAX)?;
    Some((name, gid, f.next().unwrap_or_default()))
}

fn group_id(name: &str, group: &str) -> Result<u32> {
    if let Some((_, gid, _)) = group.lines().filter_map(group_line).find(|g| g.0 == name) {
        return Ok(gid);
    }
    name.parse().ok().filter(|n| *n <= ID_MAX).ok_or_else(|| {
        Error::NotFound(format!(
            "the container has no group '{name}' in its /etc/group; use a number"
        ))
    })
}

fn groups_of(name: &str, group: &str) -> Vec<u32> {
    group
        .lines()
        .filter_map(group_line)
        .filter(|(_, _, members)| members.split(',').any(|m| m.trim() == name))
        .map(|(_, gid, _)| gid)
        .take(GROUPS_MAX)
        .collect()
}

#[cfg(test)]
#[path = "user_tests.rs"]
mod tests;
