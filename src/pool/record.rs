//! Records: what one operation changed. Key changes and tree-level actions, with physical chunk
//! addresses and never a reference count: replay derives those.
//!
//! A payload is the owner (8 bytes: the volume, 0 for the catalog), then actions until its end:
//!
//! | tag | fields |
//! |---|---|
//! | 1 put | key 17, length 4, value |
//! | 2 delete | key 17 |
//! | 3 clone | source 8, target 8: the target's tree is the source's |
//! | 4 replace | source 8, target 8: as clone, the target's tree so far is dead |
//! | 5 drop | volume 8: its tree is dead |
//! | 6 mark | count 4, then volume 8 and sequence number 8 each: durable up to there |

use crate::tree::{Change, Key, VALUE_MAX};
use std::collections::BTreeMap;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Change(Key, Change),
    Clone { source: u64, target: u64 },
    Replace { source: u64, target: u64 },
    Drop { volume: u64 },
    Mark(Vec<(u64, u64)>),
}

pub(super) fn encode(owner: u64, changes: &BTreeMap<Key, Change>, actions: &[Action]) -> Vec<u8> {
    let mut b = Vec::with_capacity(64 + changes.len() * 64);
    b.extend_from_slice(&owner.to_le_bytes());
    for (key, change) in changes {
        put_change(&mut b, key, change);
    }
    for action in actions {
        match action {
            Action::Change(key, change) => put_change(&mut b, key, change),
            Action::Clone { source, target } => put_pair(&mut b, 3, *source, *target),
            Action::Replace { source, target } => put_pair(&mut b, 4, *source, *target),
            Action::Drop { volume } => {
                b.push(5);
                b.extend_from_slice(&volume.to_le_bytes());
            }
            Action::Mark(list) => {
                b.push(6);
                b.extend_from_slice(&(list.len() as u32).to_le_bytes());
                for (volume, seq) in list {
                    b.extend_from_slice(&volume.to_le_bytes());
                    b.extend_from_slice(&seq.to_le_bytes());
                }
            }
        }
    }
    b
}

fn put_change(b: &mut Vec<u8>, key: &Key, change: &Change) {
    match change {
        Some(value) => {
            b.push(1);
            b.extend_from_slice(&key.encode());
            b.extend_from_slice(&(value.len() as u32).to_le_bytes());
            b.extend_from_slice(value);
        }
        None => {
            b.push(2);
            b.extend_from_slice(&key.encode());
        }
    }
}

fn put_pair(b: &mut Vec<u8>, tag: u8, source: u64, target: u64) {
    b.push(tag);
    b.extend_from_slice(&source.to_le_bytes());
    b.extend_from_slice(&target.to_le_bytes());
}

/// `None`: the bytes are no record.
pub(super) fn decode(payload: &[u8]) -> Option<(u64, Vec<Action>)> {
    let mut rest = payload;
    let owner = u64(&mut rest)?;
    let mut actions = Vec::new();
    while let Some((tag, r)) = rest.split_first() {
        rest = r;
        actions.push(match tag {
            1 => {
                let key = key(&mut rest)?;
                let len = u32(&mut rest)? as usize;
                if len > VALUE_MAX {
                    return None;
                }
                let (value, r) = rest.split_at_checked(len)?;
                rest = r;
                Action::Change(key, Some(value.to_vec()))
            }
            2 => Action::Change(key(&mut rest)?, None),
            3 => Action::Clone {
                source: u64(&mut rest)?,
                target: u64(&mut rest)?,
            },
            4 => Action::Replace {
                source: u64(&mut rest)?,
                target: u64(&mut rest)?,
            },
            5 => Action::Drop {
                volume: u64(&mut rest)?,
            },
            6 => {
                let n = u32(&mut rest)? as usize;
                if n > rest.len() / 16 {
                    return None;
                }
                let mut list = Vec::with_capacity(n);
                for _ in 0..n {
                    list.push((u64(&mut rest)?, u64(&mut rest)?));
                }
                Action::Mark(list)
            }
            _ => return None,
        });
    }
    Some((owner, actions))
}

fn key(rest: &mut &[u8]) -> Option<Key> {
    let (k, r) = rest.split_first_chunk::<{ Key::LEN }>()?;
    *rest = r;
    Some(Key::decode(k))
}

fn u64(rest: &mut &[u8]) -> Option<u64> {
    let (v, r) = rest.split_first_chunk::<8>()?;
    *rest = r;
    Some(u64::from_le_bytes(*v))
}

fn u32(rest: &mut &[u8]) -> Option<u32> {
    let (v, r) = rest.split_first_chunk::<4>()?;
    *rest = r;
    Some(u32::from_le_bytes(*v))
}
