//! Requests of the kernel translated into calls of `fs`, and nothing more.
//!
//! Node ids are inode numbers. There are no open files here: OPEN and OPENDIR are answered once with ENOSYS, after
//! which the kernel asks no more, and CREATE too, so that the kernel makes files with MKNOD and owes us no RELEASE.

use super::answer::{answer, guarded};
use super::convert::{FOREVER, Show, from_request, from_request_or_now};
use super::counters::Request as Kind;
use super::door::Door;
use crate::base::{Error, Result};
use crate::fs::{RenameFlags, SetAttr, XattrSet};
use fuser::{
    BsdFileFlags, CopyFileRangeFlags, Errno, FileHandle, Filesystem, Generation, INodeNo,
    InitFlags, IoctlFlags, KernelConfig, LockOwner, OpenFlags, ReplyAttr, ReplyCreate, ReplyData,
    ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyIoctl, ReplyLseek, ReplyOpen,
    ReplyStatfs, ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

/// Bytes the kernel may send or ask for in one request.
const MAX_IO: u32 = 1 << 20;
/// Requests without a waiting program (readahead, writeback) that the kernel keeps with us at a time.
const BACKGROUND: u16 = 64;
/// The ioctl(2) of fstrim(8), and the bytes of its struct fstrim_range.
const FITRIM: u32 = 0xc018_5879;
const FSTRIM_RANGE: usize = 24;
/// Shrinking a file by more than this is left to a worker.
const MUCH: u64 = 64 << 20;

/// What fuser holds.
pub(super) struct Handle(pub Arc<Door>);

impl Handle {
    fn count(&self, request: Kind) -> &Arc<Door> {
        self.0.counters.count(request);
        &self.0
    }
}

fn bytes(name: &OsStr) -> &[u8] {
    name.as_bytes()
}

impl Filesystem for Handle {
    fn init(&mut self, _req: &Request, config: &mut KernelConfig) -> io::Result<()> {
        let wanted = InitFlags::FUSE_PARALLEL_DIROPS
            | InitFlags::FUSE_DO_READDIRPLUS
            | InitFlags::FUSE_READDIRPLUS_AUTO
            | InitFlags::FUSE_CACHE_SYMLINKS
            | InitFlags::FUSE_ASYNC_DIO
            | InitFlags::FUSE_POSIX_ACL
            | InitFlags::FUSE_DONT_MASK
            | InitFlags::FUSE_NO_OPEN_SUPPORT
            | InitFlags::FUSE_NO_OPENDIR_SUPPORT
            | InitFlags::FUSE_HANDLE_KILLPRIV_V2
            | InitFlags::FUSE_EXPLICIT_INVAL_DATA
            | InitFlags::FUSE_EXPORT_SUPPORT;
        for flag in wanted.iter() {
            // Never more than the kernel has: an older one is slower, not wrong.
            if config.add_capabilities(flag).is_err() {
                log::info!("this kernel has no {flag:?}");
            }
        }
        if self.0.keep_back
            && config
                .add_capabilities(InitFlags::FUSE_WRITEBACK_CACHE)
                .is_ok()
        {
            self.0.writeback.store(true, Ordering::Relaxed);
        }
        let _ = config.set_max_write(MAX_IO);
        if let Err(most) = config.set_max_readahead(MAX_IO) {
            let _ = config.set_max_readahead(most);
        }
        let _ = config.set_max_background(BACKGROUND);
        Ok(())
    }

    fn lookup(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let door = self.count(Kind::Lookup);
        let found = guarded(|| match bytes(name) {
            // Only for file handles (open_by_handle_at, NFS): an inode that is no longer reachable is stale.
            b"." => door.fs.attr(parent.0).and_then(|a| {
                if a.nlink == 0 {
                    Err(Error::Posix(libc::ESTALE))
                } else {
                    Ok(a)
                }
            }),
            b".." => door.fs.parent(parent.0).and_then(|ino| door.fs.attr(ino)),
            name => door.fs.lookup(parent.0, name),
        });
        match found {
            // Remembered too: a name that is not there is asked for once.
            Err(e) if e.errno() == libc::ENOENT => {
                reply.entry(&FOREVER, &Show::nothing(), Generation(0))
            }
            found => door.entry(Kind::Lookup, parent.0, reply, || found),
        }
    }

    fn forget(&self, _req: &Request, ino: INodeNo, nlookup: u64) {
        self.count(Kind::Forget).forget(ino.0, nlookup);
    }

    fn getattr(&self, _req: &Request, ino: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        let door = self.count(Kind::Getattr);
        answer(
            Kind::Getattr,
            ino.0,
            reply,
            || door.show().attr(&door.fs.attr(ino.0)?),
            |reply, shown| reply.attr(&FOREVER, &shown),
        );
    }

    fn setattr(
        &self,
        req: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        ctime: Option<SystemTime>,
        _fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let door = self.count(Kind::Setattr);
        let (squash, ino) = (door.squash, ino.0);
        let set = SetAttr {
            mode: mode.map(|m| m & 0o7777),
            // To whom it seems to belong already.
            uid: uid.filter(|_| squash.uid.is_none() || uid != squash.uid),
            gid: gid.filter(|_| squash.gid.is_none() || gid != squash.gid),
            size,
            atime: atime.map(from_request_or_now),
            mtime: mtime.map(from_request_or_now),
            ctime: ctime.map(from_request),
            // The kernel's own word on it does not get through the transport.
            kill_suidgid: size.is_some() && req.uid() != 0,
        };
        let cred = door.cred(req, 0);
        let work = move |door: &Arc<Door>| {
            let run = || {
                let shown = door.show().attr(&door.fs.set_attr(ino, &set, &cred)?);
                door.touched.changed(ino);
                shown
            };
            answer(Kind::Setattr, ino, reply, run, |reply, shown| {
                reply.attr(&FOREVER, &shown)
            });
        };
        let gives_much_back = |size| {
            door.fs
                .attr(ino)
                .is_ok_and(|a| a.size.saturating_sub(size) > MUCH)
        };
        match size {
            Some(size) if gives_much_back(size) => door.later(work),
            _ => work(door),
        }
    }

    fn readlink(&self, _req: &Request, ino: INodeNo, reply: ReplyData) {
        let door = self.count(Kind::Readlink);
        door.will_be_read(ino.0);
        answer(
            Kind::Readlink,
            ino.0,
            reply,
            || door.fs.readlink(ino.0),
            |reply, target| reply.data(&target),
        );
    }

    fn mknod(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        rdev: u32,
        reply: ReplyEntry,
    ) {
        let door = self.count(Kind::Mknod);
        door.touched.changed(parent.0);
        let cred = door.cred(req, umask);
        door.entry(Kind::Mknod, parent.0, reply, || {
            door.fs.mknod(parent.0, bytes(name), mode, rdev, &cred)
        });
    }

    fn mkdir(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        reply: ReplyEntry,
    ) {
        let door = self.count(Kind::Mkdir);
        door.touched.changed(parent.0);
        let cred = door.cred(req, umask);
        door.entry(Kind::Mkdir, parent.0, reply, || {
            door.fs.mkdir(parent.0, bytes(name), mode, &cred)
        });
    }

    fn unlink(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let door = self.count(Kind::Unlink);
        door.touched.changed(parent.0);
        let run = || {
            door.fs
                .unlink(parent.0, bytes(name))
                .map(|gone| door.unlinked(&gone))
        };
        answer(Kind::Unlink, parent.0, reply, run, |reply, ()| reply.ok());
    }

    fn rmdir(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let door = self.count(Kind::Rmdir);
        door.touched.changed(parent.0);
        let run = || {
            door.fs
                .rmdir(parent.0, bytes(name))
                .map(|gone| door.unlinked(&gone))
        };
        answer(Kind::Rmdir, parent.0, reply, run, |reply, ()| reply.ok());
    }

    fn symlink(
        &self,
        req: &Request,
        parent: INodeNo,
        link_name: &OsStr,
        target: &Path,
        reply: ReplyEntry,
    ) {
        let door = self.count(Kind::Symlink);
        door.touched.changed(parent.0);
        let cred = door.cred(req, 0);
        door.entry(Kind::Symlink, parent.0, reply, || {
            door.fs
                .symlink(parent.0, bytes(link_name), bytes(target.as_os_str()), &cred)
        });
    }

    fn rename(
        &self,
        _req: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        flags: fuser::RenameFlags,
        reply: ReplyEmpty,
    ) {
        let door = self.count(Kind::Rename);
        door.touched.changed(parent.0);
        door.touched.changed(newparent.0);
        let run = || {
            if flags.bits() & !fuser::RenameFlags::all().bits() != 0 {
                return Err(Error::Posix(libc::EINVAL));
            }
            let flags = RenameFlags {
                noreplace: flags.contains(fuser::RenameFlags::RENAME_NOREPLACE),
                exchange: flags.contains(fuser::RenameFlags::RENAME_EXCHANGE),
                whiteout: flags.contains(fuser::RenameFlags::RENAME_WHITEOUT),
            };
            if let Some(replaced) =
                door.fs
                    .rename(parent.0, bytes(name), newparent.0, bytes(newname), flags)?
            {
                door.unlinked(&replaced);
            }
            Ok(())
        };
        answer(Kind::Rename, parent.0, reply, run, |reply, ()| reply.ok());
    }

    fn link(
        &self,
        _req: &Request,
        ino: INodeNo,
        newparent: INodeNo,
        newname: &OsStr,
        reply: ReplyEntry,
    ) {
        let door = self.count(Kind::Link);
        door.touched.changed(newparent.0);
        door.entry(Kind::Link, newparent.0, reply, || {
            door.fs.link(ino.0, newparent.0, bytes(newname))
        });
    }

    fn open(&self, _req: &Request, _ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        self.count(Kind::Open);
        reply.error(Errno::ENOSYS);
    }

    fn opendir(&self, _req: &Request, _ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        self.count(Kind::Opendir);
        reply.error(Errno::ENOSYS);
    }

    fn create(
        &self,
        _req: &Request,
        _parent: INodeNo,
        _name: &OsStr,
        _mode: u32,
        _umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        self.count(Kind::Create);
        reply.error(Errno::ENOSYS);
    }

    fn flush(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _lock_owner: LockOwner,
        reply: ReplyEmpty,
    ) {
        self.count(Kind::Flush);
        reply.error(Errno::ENOSYS);
    }

    fn release(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        self.count(Kind::Release);
        reply.ok();
    }

    fn releasedir(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _flags: OpenFlags,
        reply: ReplyEmpty,
    ) {
        self.count(Kind::Releasedir);
        reply.ok();
    }

    fn read(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let door = self.count(Kind::Read);
        door.will_be_read(ino.0);
        let len = size.min(MAX_IO) as usize;
        if let Some(reply) = door.read(ino.0, offset, len, reply, false) {
            door.counters.cold();
            door.later(move |door| {
                door.read(ino.0, offset, len, reply, true);
            });
        }
    }

    fn write(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        data: &[u8],
        write_flags: WriteFlags,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let door = self.count(Kind::Write);
        // Written back from the kernel's cache: it sets the times itself, and cleared setuid when it took the data.
        let cached = write_flags.contains(WriteFlags::FUSE_WRITE_CACHE);
        let kill = write_flags.contains(WriteFlags::FUSE_WRITE_KILL_SUIDGID);
        let run = || {
            door.fs.write(ino.0, offset, data, !cached, kill)?;
            door.touched.changed(ino.0);
            Ok(data.len() as u32)
        };
        answer(Kind::Write, ino.0, reply, run, |reply, n| reply.written(n));
    }

    fn fsync(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        _datasync: bool,
        reply: ReplyEmpty,
    ) {
        let door = self.count(Kind::Fsync);
        door.sync(Kind::Fsync, ino.0, reply);
    }

    fn fsyncdir(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        _datasync: bool,
        reply: ReplyEmpty,
    ) {
        let door = self.count(Kind::Fsyncdir);
        door.sync(Kind::Fsyncdir, ino.0, reply);
    }

    fn readdir(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        reply: ReplyDirectory,
    ) {
        self.count(Kind::Readdir).list(ino.0, offset, reply);
    }

    fn readdirplus(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        reply: ReplyDirectoryPlus,
    ) {
        self.count(Kind::Readdirplus)
            .list_with_attrs(ino.0, offset, reply);
    }

    fn statfs(&self, _req: &Request, ino: INodeNo, reply: ReplyStatfs) {
        let door = self.count(Kind::Statfs);
        let block = crate::base::BLOCK as u32;
        answer(
            Kind::Statfs,
            ino.0,
            reply,
            || door.fs.statfs(),
            |reply, s| {
                reply.statfs(
                    s.blocks,
                    s.free,
                    s.free,
                    s.files,
                    s.files_free,
                    block,
                    s.name_max,
                    block,
                )
            },
        );
    }

    fn setxattr(
        &self,
        req: &Request,
        ino: INodeNo,
        name: &OsStr,
        value: &[u8],
        flags: i32,
        _position: u32,
        reply: ReplyEmpty,
    ) {
        let door = self.count(Kind::Setxattr);
        let run = || {
            let how = match flags {
                0 => XattrSet::Any,
                libc::XATTR_CREATE => XattrSet::Create,
                libc::XATTR_REPLACE => XattrSet::Replace,
                _ => return Err(Error::Posix(libc::EINVAL)),
            };
            door.fs.set_xattr(ino.0, bytes(name), value, how)?;
            door.acl_was_set(req, ino.0, bytes(name))
        };
        answer(Kind::Setxattr, ino.0, reply, run, |reply, ()| reply.ok());
    }

    fn getxattr(&self, _req: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        let door = self.count(Kind::Getxattr);
        answer(
            Kind::Getxattr,
            ino.0,
            reply,
            || sized(size, door.fs.xattr(ino.0, bytes(name))?),
            send_sized,
        );
    }

    fn listxattr(&self, _req: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        let door = self.count(Kind::Listxattr);
        let run = || {
            let mut list = Vec::new();
            for name in door.fs.xattrs(ino.0)? {
                list.extend_from_slice(&name);
                list.push(0);
            }
            sized(size, list)
        };
        answer(Kind::Listxattr, ino.0, reply, run, send_sized);
    }

    fn removexattr(&self, _req: &Request, ino: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let door = self.count(Kind::Removexattr);
        answer(
            Kind::Removexattr,
            ino.0,
            reply,
            || door.fs.remove_xattr(ino.0, bytes(name)),
            |reply, ()| reply.ok(),
        );
    }

    fn access(&self, _req: &Request, _ino: INodeNo, _mask: fuser::AccessFlags, reply: ReplyEmpty) {
        // The kernel checks (default_permissions); it should not even ask.
        self.count(Kind::Access);
        reply.error(Errno::ENOSYS);
    }

    fn poll(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _ph: fuser::PollNotifier,
        _events: fuser::PollEvents,
        _flags: fuser::PollFlags,
        reply: fuser::ReplyPoll,
    ) {
        // Files are always ready, which the kernel says itself from now on.
        self.count(Kind::Poll);
        reply.error(Errno::ENOSYS);
    }

    fn fallocate(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        self.count(Kind::Fallocate)
            .allocate(ino.0, offset, length, mode, reply);
    }

    fn lseek(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        self.count(Kind::Lseek).seek(ino.0, offset, whence, reply);
    }

    fn copy_file_range(
        &self,
        _req: &Request,
        ino_in: INodeNo,
        _fh_in: FileHandle,
        offset_in: u64,
        ino_out: INodeNo,
        _fh_out: FileHandle,
        offset_out: u64,
        len: u64,
        _flags: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        let (from, to) = ((ino_in.0, offset_in), (ino_out.0, offset_out));
        self.count(Kind::CopyFileRange).copy(from, to, len, reply);
    }

    fn ioctl(
        &self,
        req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        _flags: IoctlFlags,
        cmd: u32,
        in_data: &[u8],
        out_size: u32,
        reply: ReplyIoctl,
    ) {
        let door = self.count(Kind::Ioctl);
        if cmd != FITRIM || in_data.len() != FSTRIM_RANGE || out_size as usize != FSTRIM_RANGE {
            return reply.error(Errno::ENOTTY);
        }
        if req.uid() != 0 && req.uid() != rustix::process::geteuid().as_raw() {
            return reply.error(Errno::EPERM);
        }
        door.trim(ino.0, in_data.to_vec(), reply);
    }
}

/// Just the length, or the value, or ERANGE.
enum Sized {
    Length(u32),
    Value(Vec<u8>),
}

fn sized(room: u32, value: Vec<u8>) -> Result<Sized> {
    match (room, u32::try_from(value.len())) {
        (_, Err(_)) => Err(Error::Posix(libc::E2BIG)),
        (0, Ok(len)) => Ok(Sized::Length(len)),
        (room, Ok(len)) if len > room => Err(Error::Posix(libc::ERANGE)),
        _ => Ok(Sized::Value(value)),
    }
}

fn send_sized(reply: ReplyXattr, value: Sized) {
    match value {
        Sized::Length(len) => reply.size(len),
        Sized::Value(value) => reply.data(&value),
    }
}
