//! Random operations, mostly sensible, on what the model holds.

use super::ops::Op;
use super::state::{Body, State};
use cowfs::base::{Ino, ROOT_INO, Time};
use cowfs::device::faulty::Dice;
use cowfs::fs::{Cred, Fallocate, RenameFlags, Seek, SetAttr, XattrSet};
use libc::{S_IFBLK, S_IFCHR, S_IFIFO, S_IFREG, S_IFSOCK};

/// How big things may become.
#[derive(Clone, Copy)]
pub struct Scale {
    /// Inodes of a volume, more or less.
    pub inodes: usize,
    /// Bytes of an ordinary file.
    pub file: u64,
    /// Bytes of one write.
    pub write: u64,
    /// Some files are sparse and far larger.
    pub giants: bool,
}

pub struct Generator {
    pub dice: Dice,
    pub scale: Scale,
    /// Number of the last write: patterns never repeat.
    pub write: u64,
}

impl Generator {
    pub fn new(seed: u64, scale: Scale) -> Generator {
        Generator {
            dice: Dice(seed),
            scale,
            write: 0,
        }
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.dice.below(100) < percent
    }

    pub fn pick<T: Copy>(&mut self, all: &[T]) -> Option<T> {
        all.get(self.dice.below(all.len() as u64) as usize).copied()
    }

    fn inode(&mut self, state: &State, want: impl Fn(&super::state::Inode) -> bool) -> Ino {
        if self.chance(1) {
            // Mostly one that never was.
            return self.dice.below(5000) + 2;
        }
        let all: Vec<Ino> = state
            .inodes
            .iter()
            .filter(|(_, i)| want(i))
            .map(|(n, _)| *n)
            .collect();
        self.pick(&all).unwrap_or(ROOT_INO)
    }

    fn any(&mut self, state: &State) -> Ino {
        self.inode(state, |_| true)
    }

    fn dir(&mut self, state: &State) -> Ino {
        match self.chance(2) {
            true => self.any(state),
            // Directories that were removed stay open for a while: few, but they are there.
            false => self.inode(state, |i| i.is_dir()),
        }
    }

    fn file(&mut self, state: &State) -> Ino {
        match self.chance(2) {
            true => self.any(state),
            false => self.inode(state, |i| i.is_file()),
        }
    }

    /// A name, often one that is there.
    fn name(&mut self, state: &State, dir: Ino, existing: u64) -> Vec<u8> {
        if self.chance(existing)
            && let Ok(names) = state.names(dir)
        {
            let all: Vec<&Vec<u8>> = names.keys().collect();
            if let Some(name) = self.pick(&all) {
                return name.clone();
            }
        }
        let n = self.dice.below(40);
        match self.dice.below(20) {
            0 => vec![b'x'; 200 + self.dice.below(57) as usize],
            1 => vec![0xff, 0x80, b'0' + (n % 10) as u8],
            _ => format!("n{n}").into_bytes(),
        }
    }

    fn cred(&mut self) -> Cred {
        let umask = [0, 0o22, 0o77][self.dice.below(3) as usize];
        match self.chance(70) {
            true => Cred {
                umask,
                ..Cred::ROOT
            },
            false => Cred {
                uid: 1000 + self.dice.below(3) as u32,
                gid: 100,
                umask,
            },
        }
    }

    /// Offsets: often aligned, often at the edges.
    fn offset(&mut self, size: u64) -> u64 {
        let max = self.scale.file;
        match self.dice.below(12) {
            0..=2 => 0,
            3 => size,
            4 => size.saturating_sub(self.dice.below(5000)),
            5 => self.dice.below(max) / 4096 * 4096,
            6 => self.dice.below(max) / 65536 * 65536,
            7 => size + self.dice.below(10000),
            8 if self.scale.giants && self.chance(20) => self.dice.below(1 << 42),
            _ => self.dice.below(size.max(100)),
        }
    }

    fn length(&mut self) -> u64 {
        let max = self.scale.write;
        match self.dice.below(12) {
            0 => 0,
            1..=4 => self.dice.below(200) + 1,
            5 => 4096,
            6 => 4095 + self.dice.below(3),
            7 => 65536.min(max),
            8 => self.dice.below(max / 4096 + 1) * 4096,
            _ => self.dice.below(max) + 1,
        }
    }

    /// An operation; the kernel does not pass on reads and writes of nothing to what is no file.
    pub fn op(&mut self, state: &State) -> Op {
        let mut op = self.any_op(state);
        if let Op::Read { ino, len, .. } | Op::Write { ino, len, .. } = &mut op
            && !state.get(*ino).is_ok_and(|i| i.is_file())
        {
            *len = (*len).max(1);
        }
        op
    }

    fn any_op(&mut self, state: &State) -> Op {
        let crowded = state.inodes.len() > self.scale.inodes;
        let size = |state: &State, ino: Ino| state.get(ino).map_or(0, |i| i.size);
        if crowded && self.chance(12) {
            return if self.chance(30) {
                self.forget(state)
            } else {
                self.removal(state)
            };
        }
        match self.dice.below(100) {
            0..=8 => {
                let dir = self.dir(state);
                let name = self.name(state, dir, 10);
                let cred = self.cred();
                let kinds = [
                    S_IFREG, S_IFREG, S_IFREG, S_IFREG, S_IFREG, S_IFREG, S_IFIFO, S_IFSOCK,
                    S_IFCHR, S_IFBLK,
                ];
                let kind = kinds[self.dice.below(10) as usize];
                let rdev = if matches!(kind, S_IFCHR | S_IFBLK) {
                    self.dice.below(1 << 20) as u32
                } else {
                    0
                };
                let suid = if self.chance(10) { libc::S_ISUID } else { 0 };
                let mode = kind | suid | self.dice.below(0o1000) as u32;
                Op::Mknod {
                    dir,
                    name,
                    mode,
                    rdev,
                    cred,
                }
            }
            9..=12 => {
                let dir = self.dir(state);
                let name = self.name(state, dir, 10);
                let special = [0, 0, 0, libc::S_ISVTX, libc::S_ISGID][self.dice.below(5) as usize];
                let (mode, cred) = (self.dice.below(0o1000) as u32 | special, self.cred());
                Op::Mkdir {
                    dir,
                    name,
                    mode,
                    cred,
                }
            }
            13..=14 => {
                let dir = self.dir(state);
                let name = self.name(state, dir, 10);
                let len = if self.chance(10) {
                    4095
                } else {
                    self.dice.below(100) + 1
                } as usize;
                let target = vec![b'a' + (len % 26) as u8; len];
                let cred = self.cred();
                Op::Symlink {
                    dir,
                    name,
                    target,
                    cred,
                }
            }
            15 => {
                let (dir, cred) = (
                    self.inode(state, |i| i.is_dir() && i.nlink > 0),
                    self.cred(),
                );
                Op::Tmpfile {
                    dir,
                    mode: self.dice.below(0o1000) as u32,
                    cred,
                }
            }
            16..=18 => {
                // What was unlinked cannot come back (the kernel sees to that); links to it are not tried.
                let ino = self.inode(state, |i| i.nlink > 0);
                let dir = self.dir(state);
                let name = self.name(state, dir, 10);
                Op::Link { ino, dir, name }
            }
            19..=24 => self.removal(state),
            25..=33 => self.rename(state),
            34 => self.forget(state),
            35..=36 => {
                let dir = self.dir(state);
                let name = self.name(state, dir, 80);
                Op::Lookup { dir, name }
            }
            37..=38 => Op::Readdir {
                dir: self.dir(state),
            },
            39 => match self.dice.below(4) {
                0 => Op::Attr {
                    ino: self.any(state),
                },
                1 => Op::Parent {
                    dir: self.dir(state),
                },
                2 => Op::TouchAtime {
                    ino: self.any(state),
                },
                _ => Op::Readlink {
                    ino: self.inode(state, |i| matches!(i.body, Body::Link(_))),
                },
            },
            40..=43 => {
                let ino = self.any(state);
                let mut set = SetAttr::default();
                let time = Some(Time {
                    sec: self.dice.below(1 << 33) as i64 - (1 << 31),
                    nsec: self.dice.below(1_000_000_000) as u32,
                });
                match self.dice.below(5) {
                    0 => set.mode = Some(self.dice.below(0o10000) as u32),
                    1 => {
                        set.uid = Some(self.dice.below(70000) as u32);
                        set.kill_suidgid = self.chance(50);
                    }
                    2 => set.gid = Some(self.dice.below(70000) as u32),
                    3 => (set.atime, set.mtime) = (time, time),
                    _ => set.atime = time,
                }
                Op::SetAttr {
                    ino,
                    set,
                    cred: Cred::ROOT,
                }
            }
            44..=48 => {
                let ino = self.file(state);
                let size = size(state, ino);
                let to = if self.chance(30) {
                    0
                } else {
                    self.offset(size)
                };
                let set = SetAttr {
                    size: Some(to),
                    kill_suidgid: self.chance(30),
                    ..SetAttr::default()
                };
                Op::SetAttr {
                    ino,
                    set,
                    cred: Cred::ROOT,
                }
            }
            49..=55 => self.xattr(state),
            56..=62 => {
                let ino = self.file(state);
                let size = size(state, ino);
                let (offset, len) = (self.offset(size), self.length() as usize);
                Op::Read { ino, offset, len }
            }
            63..=84 => {
                let ino = self.file(state);
                let size = size(state, ino);
                let (offset, len) = (self.offset(size), self.length() as usize);
                self.write += 1;
                let (times, kill) = (self.chance(50), self.chance(20));
                Op::Write {
                    ino,
                    offset,
                    len,
                    write: self.write,
                    times,
                    kill,
                }
            }
            85..=89 => {
                let ino = self.file(state);
                let size = size(state, ino);
                let start = self.offset(size);
                let len = self.length() + if self.chance(20) { 65536 } else { 0 };
                let keep_size = self.chance(50);
                let mode = match self.dice.below(4) {
                    0 => Fallocate::Allocate { keep_size },
                    1 => Fallocate::ZeroRange { keep_size },
                    _ => Fallocate::PunchHole,
                };
                Op::Fallocate {
                    ino,
                    range: start..start + len,
                    mode,
                }
            }
            90..=92 => {
                let ino = self.file(state);
                let size = size(state, ino);
                let what = if self.chance(50) {
                    Seek::Data
                } else {
                    Seek::Hole
                };
                Op::Seek {
                    ino,
                    offset: self.offset(size),
                    what,
                }
            }
            93..=97 => self.copy(state),
            _ => Op::Fsync {
                ino: self.any(state),
            },
        }
    }

    fn removal(&mut self, state: &State) -> Op {
        let dir = self.dir(state);
        let name = self.name(state, dir, 90);
        let is_dir = state
            .names(dir)
            .ok()
            .and_then(|n| n.get(&name))
            .and_then(|i| state.get(*i).ok())
            .is_some_and(|i| i.is_dir());
        match is_dir != self.chance(3) {
            true => Op::Rmdir { dir, name },
            false => Op::Unlink { dir, name },
        }
    }

    fn rename(&mut self, state: &State) -> Op {
        let (dir, new_dir) = (self.dir(state), self.dir(state));
        let new_dir = if self.chance(40) { dir } else { new_dir };
        let name = self.name(state, dir, 95);
        let new_name = self.name(state, new_dir, 50);
        let flags = match self.dice.below(10) {
            0 => RenameFlags {
                noreplace: true,
                ..RenameFlags::default()
            },
            1 | 2 => RenameFlags {
                exchange: true,
                ..RenameFlags::default()
            },
            3 => RenameFlags {
                whiteout: true,
                ..RenameFlags::default()
            },
            _ => RenameFlags::default(),
        };
        Op::Rename {
            dir,
            name,
            new_dir,
            new_name,
            flags,
        }
    }

    fn forget(&mut self, state: &State) -> Op {
        match self.chance(10) {
            true => Op::Forget {
                ino: self.any(state),
            },
            false => {
                let orphans: Vec<Ino> = state
                    .inodes
                    .iter()
                    .filter(|(_, i)| i.nlink == 0)
                    .map(|(n, _)| *n)
                    .collect();
                let ino = self.pick(&orphans).unwrap_or(ROOT_INO);
                Op::Forget { ino }
            }
        }
    }

    fn xattr(&mut self, state: &State) -> Op {
        let ino = self.any(state);
        let names: [&[u8]; 7] = [
            b"user.a",
            b"user.b",
            b"user.c",
            b"trusted.x",
            b"security.y",
            b"security.capability",
            b"user.long",
        ];
        let mut name = names[self.dice.below(7) as usize].to_vec();
        if name == b"user.long" {
            name.resize(9 + self.dice.below(248) as usize, b'z');
        }
        match self.dice.below(10) {
            0 | 1 => Op::Xattr { ino, name },
            2 => Op::Xattrs { ino },
            3 | 4 => Op::RemoveXattr { ino, name },
            _ => {
                let len = match self.dice.below(10) {
                    0 => 0,
                    1 => self.dice.below(66000),
                    2 => self.dice.below(9000),
                    _ => self.dice.below(100),
                };
                self.write += 1;
                let value = super::data::pattern(self.write, 0, len as usize);
                let how = [
                    XattrSet::Any,
                    XattrSet::Any,
                    XattrSet::Create,
                    XattrSet::Replace,
                ];
                Op::SetXattr {
                    ino,
                    name,
                    value,
                    how: how[self.dice.below(4) as usize],
                }
            }
        }
    }

    fn copy(&mut self, state: &State) -> Op {
        let (from, to) = (self.file(state), self.file(state));
        let (a, b) = (
            state.get(from).map_or(0, |i| i.size),
            state.get(to).map_or(0, |i| i.size),
        );
        let (mut from_offset, mut to_offset, mut len) =
            (self.offset(a), self.offset(b), self.length());
        if self.chance(60) {
            // Aligned as sharing wants it.
            from_offset = from_offset / 65536 * 65536;
            to_offset = to_offset / 65536 * 65536;
            len = (len * 2).next_multiple_of(65536);
        }
        if from == to && from_offset < to_offset + len && to_offset < from_offset + len {
            to_offset = from_offset + len;
        }
        Op::Copy {
            from,
            from_offset,
            to,
            to_offset,
            len,
        }
    }
}
