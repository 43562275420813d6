//! The catalog's verbs: make, find, rename, roll back, remove volumes; their blobs.

use super::catalog::{self, Found, LEAVING, RootItem, VolumeItem};
use super::core::{Core, Volume};
use super::op::Entered;
use super::record::Action;
use super::{Kind, Need, NewVolume, Open, Pool, VolumeInfo};
use crate::base::{Error, Result, Time, VolumeId};
use crate::tree::{Change, Key, Read, Tree, kind};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Weak};

/// Keys and bytes of any one record of the catalog.
const NEED: Need = Need {
    keys: 24,
    bytes: 96 << 10,
    frees: false,
};
const NEED_FREES: Need = Need {
    keys: 64,
    bytes: 16 << 10,
    frees: true,
};
/// Parts of a blob written or deleted in one record.
const PARTS: usize = 16;

impl Pool {
    /// Passes the gates of the catalog.
    pub(super) fn enter_catalog(&self, need: Need, logged: bool) -> Result<Entered<'_>> {
        let reserved = self.reserve(need, logged)?;
        Ok(Entered::pass(self, &self.catalog, reserved))
    }

    /// All open volumes (without the catalog).
    pub(super) fn cores(&self) -> Vec<Arc<Core>> {
        self.open.lock().values().map(|o| o.core.clone()).collect()
    }

    /// Opens a volume's core. The caller is inside the pool's gate: a core must not be read from the
    /// catalog while a checkpoint writes it there.
    pub(super) fn core(&self, id: VolumeId) -> Result<Arc<Core>> {
        if let Some(o) = self.open.lock().get(&id) {
            return Ok(o.core.clone());
        }
        let (item, root) = self.view(&self.catalog, |r| {
            Ok((catalog::volume_item(r, id)?, catalog::root_item(r, id)?))
        })?;
        let core = Arc::new(Core::new(id, Some(&item), &root.unwrap_or_default()));
        let mut open = self.open.lock();
        Ok(open
            .entry(id)
            .or_insert_with(|| Open {
                core,
                handle: Weak::new(),
            })
            .core
            .clone())
    }

    pub fn volumes(&self) -> Result<Vec<VolumeInfo>> {
        let g = self.enter_catalog(Need::READ, false)?;
        let mut from = Key::MIN;
        let mut out: Vec<VolumeInfo> = Vec::new();
        // In portions, so that the catalog is not locked for long.
        loop {
            let (list, next) = g.view(|r| portion(r, from))?;
            for (id, item, root) in list {
                out.push(self.with_live(item.info(id, &root)));
            }
            match next {
                Some(n) => from = n,
                None => return Ok(out),
            }
        }
    }

    /// Totals of an open volume are newer in memory.
    fn with_live(&self, mut info: VolumeInfo) -> VolumeInfo {
        if let Some(o) = self.open.lock().get(&info.id) {
            let root = o.core.root_item();
            info.used = root.blocks.saturating_mul(crate::base::BLOCK);
            info.inodes = root.inodes;
        }
        info
    }

    pub fn find(&self, name: &str) -> Result<Option<VolumeInfo>> {
        let key = self.hash_key();
        let g = self.enter_catalog(Need::READ, false)?;
        let found = g.view(|r| match catalog::find_name(r, &key, name)? {
            Found::At(_, id) => info(r, id).map(Some),
            Found::Free(_) => Ok(None),
        })?;
        Ok(found.map(|i| self.with_live(i)))
    }

    pub fn info(&self, id: VolumeId) -> Result<VolumeInfo> {
        let g = self.enter_catalog(Need::READ, false)?;
        g.view(|r| info(r, id)).map(|i| self.with_live(i))
    }

    /// Opens a volume for use; it counts as used while any clone of the Arc lives.
    pub fn volume(self: &Arc<Self>, id: VolumeId) -> Result<Arc<Volume>> {
        let g = self.enter_catalog(Need::READ, false)?;
        let item = g.view(|r| catalog::volume_item(r, id))?;
        if item.removing {
            return Err(Error::NotFound(format!("'{}' is being removed", item.name)));
        }
        let core = self.core(id)?;
        let mut open = self.open.lock();
        let o = open.entry(id).or_insert_with(|| Open {
            core,
            handle: Weak::new(),
        });
        let handle = o
            .handle
            .upgrade()
            .unwrap_or_else(|| Arc::new(Volume::new(self.clone(), o.core.clone())));
        o.handle = Arc::downgrade(&handle);
        drop(open);
        // A removal that began in between has not seen this user.
        if g.view(|r| catalog::volume_item(r, id))?.removing {
            return Err(Error::NotFound(format!("'{}' is being removed", item.name)));
        }
        Ok(handle)
    }

    fn in_use(&self, id: VolumeId) -> bool {
        self.open
            .lock()
            .get(&id)
            .is_some_and(|o| o.handle.strong_count() > 0)
    }

    /// The last user of a volume has gone.
    pub(super) fn unused(&self, _id: VolumeId) {
        self.wake();
    }

    /// `Exists` when the name is taken. O(1). For a source in use: contains whole operations only.
    pub fn create(&self, new: &NewVolume) -> Result<VolumeInfo> {
        if new.name.is_empty() || new.name.len() > catalog::NAME_MAX {
            return Err(Error::Invalid(format!(
                "a volume's name has 1 to {} bytes, '{}' has {}",
                catalog::NAME_MAX,
                new.name,
                new.name.len()
            )));
        }
        let g = self.enter_catalog(NEED, true)?;
        let source = new.source.map(|s| self.core(s)).transpose()?;
        if source.as_ref().is_some_and(|s| s.building()) && !new.building {
            return Err(Error::Busy(
                "a volume that is being imported cannot be cloned yet".into(),
            ));
        }
        // Exclusively: whole operations only. Held until the clone shares the tree.
        let _whole = source.as_ref().map(|s| s.gate.write());
        let id = VolumeId(self.next_volume.fetch_add(1, SeqCst));
        let item = VolumeItem {
            kind: new.kind,
            sealed: new.sealed,
            building: new.building,
            removing: false,
            created: Time::now(),
            source: new.source.map_or(0, |s| s.0),
            limit: new.limit.unwrap_or(0),
            name: new.name.clone(),
        };
        let key = self.hash_key();
        self.update(&self.catalog, |op| {
            let Found::Free(at) = catalog::find_name(op, &key, &new.name)? else {
                return Err(Error::Exists(format!("'{}' exists already", new.name)));
            };
            op.put(at, catalog::name_value(id, &new.name));
            op.put(catalog::volume_key(id), item.encode());
            if new.building {
                op.put(catalog::leaving_key(id), Vec::new());
            }
            let clone = new.source.map(|s| Action::Clone {
                source: s.0,
                target: id.0,
            });
            Ok(((), clone.into_iter().collect()))
        })?;
        drop(_whole);
        self.core(id)?.set_born_seq(self.catalog.last_seq());
        drop(g);
        let root = source.map_or(RootItem::default(), |s| s.root_item());
        Ok(item.info(id, &root))
    }

    pub fn rename(&self, id: VolumeId, name: &str) -> Result<()> {
        let key = self.hash_key();
        let g = self.enter_catalog(NEED, true)?;
        g.update(|op| {
            let mut item = catalog::volume_item(op, id)?;
            if item.name == name {
                return Ok(());
            }
            let Found::Free(at) = catalog::find_name(op, &key, name)? else {
                return Err(Error::Exists(format!("'{name}' exists already")));
            };
            remove_name(op, &key, id, &item.name)?;
            item.name = name.into();
            op.put(at, catalog::name_value(id, name));
            op.put(catalog::volume_key(id), item.encode());
            Ok(())
        })
    }

    pub fn set_limit(&self, id: VolumeId, limit: Option<u64>) -> Result<()> {
        let g = self.enter_catalog(NEED, true)?;
        let core = self.core(id)?;
        let item = g.update(|op| {
            let mut item = catalog::volume_item(op, id)?;
            item.limit = limit.unwrap_or(0);
            op.put(catalog::volume_key(id), item.encode());
            Ok(item)
        })?;
        core.set_item(&item);
        Ok(())
    }

    /// The volume's content becomes the snapshot's; its name, id and inode counter stay.
    /// `Busy` while in use.
    pub fn rollback(&self, id: VolumeId, snapshot: VolumeId) -> Result<()> {
        {
            let g = self.enter_catalog(NEED, true)?;
            let (target, source) = (self.core(id)?, self.core(snapshot)?);
            if self.in_use(id) {
                return Err(Error::Busy("the volume is in use; unmount it first".into()));
            }
            if id == snapshot {
                return Ok(());
            }
            // In the order of ids, as everybody who holds two.
            let (first, second) = if id < snapshot {
                (&target, &source)
            } else {
                (&source, &target)
            };
            let _a = first.gate.write();
            let _b = second.gate.write();
            self.update(&self.catalog, |op| {
                let item = catalog::volume_item(op, id)?;
                if item.sealed || item.building || item.removing {
                    return Err(Error::Invalid(format!("'{}' cannot be changed", item.name)));
                }
                catalog::volume_item(op, snapshot)?;
                // The entry is put again so that the record is not empty of changes.
                op.put(catalog::volume_key(id), item.encode());
                Ok((
                    (),
                    vec![Action::Replace {
                        source: snapshot.0,
                        target: id.0,
                    }],
                ))
            })?;
            drop(g);
        }
        // The volume's records before and after must not be told apart by marks alone.
        let seen = self.nodes.generation();
        self.checkpoint_unless(seen)
    }

    /// Name gone at once, space later; deferred while in use. Removing what is gone is success.
    pub fn remove(&self, id: VolumeId) -> Result<()> {
        let key = self.hash_key();
        {
            let g = self.enter_catalog(NEED_FREES, true)?;
            g.update(|op| {
                let mut item = match catalog::volume_item(op, id) {
                    Err(Error::NotFound(_)) => return Ok(()),
                    item => item?,
                };
                if item.removing {
                    return Ok(());
                }
                remove_name(op, &key, id, &item.name)?;
                item.removing = true;
                op.put(catalog::volume_key(id), item.encode());
                op.put(catalog::leaving_key(id), Vec::new());
                Ok(())
            })?;
        }
        self.leave(id)?;
        self.wake();
        Ok(())
    }

    /// Volumes that are being removed or filled.
    pub(super) fn leaving(&self) -> Result<Vec<VolumeId>> {
        let g = self.enter_catalog(Need::READ, false)?;
        g.view(|r| {
            let mut ids = Vec::new();
            r.scan(
                &Key::new(0, LEAVING, 0),
                &Key::new(0, LEAVING + 1, 0),
                &mut |k, _| {
                    ids.push(VolumeId(k.offset));
                    Ok(if ids.len() < 4096 {
                        ControlFlow::Continue(())
                    } else {
                        ControlFlow::Break(())
                    })
                },
            )?;
            Ok(ids)
        })
    }

    /// Takes the next step of a removal; true when the volume is gone.
    pub(super) fn leave(&self, id: VolumeId) -> Result<bool> {
        loop {
            let g = self.enter_catalog(NEED_FREES, true)?;
            let item = match g.view(|r| catalog::volume_item(r, id)) {
                Err(Error::NotFound(_)) => return Ok(true),
                item => item?,
            };
            if !item.removing || self.in_use(id) {
                return Ok(false);
            }
            let core = self.core(id)?;
            let done = self.update(&self.catalog, |op| {
                if self.in_use(id) {
                    return Ok((Some(false), Vec::new()));
                }
                let blobs = (
                    Key::new(id.0, kind::BLOB, 0),
                    Key::new(id.0, kind::BLOB + 1, 0),
                );
                let mut keys = Vec::new();
                op.scan(&blobs.0, &blobs.1, &mut |k, _| {
                    keys.push(*k);
                    Ok(if keys.len() < PARTS {
                        ControlFlow::Continue(())
                    } else {
                        ControlFlow::Break(())
                    })
                })?;
                let more = keys.len() == PARTS;
                for k in keys {
                    op.delete(k);
                }
                if more {
                    return Ok((None, Vec::new()));
                }
                if op.get(&catalog::volume_key(id))?.is_none() {
                    return Ok((Some(true), Vec::new()));
                }
                op.delete(catalog::volume_key(id));
                op.delete(catalog::leaving_key(id));
                Ok((Some(true), vec![Action::Drop { volume: id.0 }]))
            })?;
            drop(core);
            if let Some(gone) = done {
                return Ok(gone);
            }
        }
    }

    /// A named blob beside a volume (at most 4 MiB); cloned volumes start without. Its first part is
    /// written last: until then the blob is not there.
    pub fn put_blob(&self, id: VolumeId, name: &str, bytes: &[u8]) -> Result<()> {
        if bytes.len() > catalog::BLOB_MAX || name.len() > 255 {
            return Err(Error::Invalid(format!(
                "blob '{name}' of {} bytes is too large",
                bytes.len()
            )));
        }
        let key = self.hash_key();
        loop {
            let g = self.enter_catalog(NEED_FREES, true)?;
            let more = g.update(|op| {
                catalog::volume_item(op, id)?;
                let (offset, old) = catalog::find_blob(op, &key, id, name)?;
                if old.is_none() {
                    return Ok(false);
                }
                // From the end, so that what is left is still found.
                let (from, to) = (
                    Key::new(id.0, kind::BLOB, offset),
                    Key::new(id.0, kind::BLOB, offset + (1 << 16)),
                );
                let mut keys = Vec::new();
                op.scan(&from, &to, &mut |k, _| {
                    keys.push(*k);
                    Ok(ControlFlow::Continue(()))
                })?;
                let cut = keys.len().saturating_sub(PARTS);
                for k in keys.drain(cut..) {
                    op.delete(k);
                }
                Ok(cut > 0)
            })?;
            if !more {
                break;
            }
        }
        let parts: Vec<(u64, Vec<u8>)> = (0..).zip(catalog::blob_parts(name, bytes)).collect();
        for some in parts.rchunks(PARTS) {
            let g = self.enter_catalog(NEED, true)?;
            g.update(|op| {
                catalog::volume_item(op, id)?;
                let (offset, _) = catalog::find_blob(op, &key, id, name)?;
                for (i, part) in some {
                    op.put(Key::new(id.0, kind::BLOB, offset + i), part.clone());
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    pub fn blob(&self, id: VolumeId, name: &str) -> Result<Option<Vec<u8>>> {
        let key = self.hash_key();
        let g = self.enter_catalog(Need::READ, false)?;
        g.view(|r| catalog::read_blob(r, &key, id, name))
    }

    /// The catalog's side of tree-level actions: keys that are never logged, because checkpoint and
    /// replay derive them.
    pub(super) fn prepare_actions(
        &self,
        tree: Tree,
        actions: &[Action],
        changes: &mut BTreeMap<Key, Change>,
    ) -> Result<()> {
        let snapshot = tree.at(&self.nodes);
        for action in actions {
            let dead = match action {
                Action::Replace { target, .. } => *target,
                Action::Drop { volume } => {
                    changes.insert(catalog::root_key(VolumeId(*volume)), None);
                    *volume
                }
                Action::Clone { source, .. } => {
                    self.opened(*source)?;
                    continue;
                }
                Action::Change(..) | Action::Mark(_) => continue,
            };
            let root = self.opened(dead)?.tree.read().root;
            if root != 0 {
                let key = catalog::dead_key(root);
                let n = snapshot.get(&key)?.map_or(0, |v| super::reclaim::count(&v));
                changes.insert(key, Some((n + 1).to_le_bytes().to_vec()));
            }
        }
        Ok(())
    }

    pub(super) fn perform_actions(&self, actions: &[Action], changes: &BTreeMap<Key, Change>) {
        for action in actions {
            match action {
                Action::Clone { source, target } | Action::Replace { source, target } => {
                    let Ok(from) = self.opened(*source) else {
                        continue;
                    };
                    let root = from.root_item();
                    if root.root != 0 && self.node_space.add(root.root, 1).is_err() {
                        log::error!("too many clones of volume {source}");
                        continue;
                    }
                    if matches!(action, Action::Replace { .. }) {
                        if let Ok(to) = self.opened(*target) {
                            self.fresh_dead.lock().0.insert(to.tree.read().root);
                            to.assume(&root);
                        }
                        continue;
                    }
                    let id = VolumeId(*target);
                    let item = changes
                        .get(&catalog::volume_key(id))
                        .and_then(|c| c.as_ref());
                    let item = item.and_then(|b| VolumeItem::decode(b).ok());
                    let core = Arc::new(Core::new(id, item.as_ref(), &root));
                    core.set_changed(true);
                    self.open.lock().insert(
                        id,
                        Open {
                            core,
                            handle: Weak::new(),
                        },
                    );
                }
                Action::Drop { volume } => {
                    let gone = self.open.lock().remove(&VolumeId(*volume));
                    if let Some(o) = &gone {
                        self.fresh_dead.lock().0.insert(o.core.tree.read().root);
                    }
                    self.dropped.lock().extend(gone.map(|o| o.core));
                }
                Action::Change(..) | Action::Mark(_) => {}
            }
        }
    }

    /// A core that the caller has opened before (and keeps).
    fn opened(&self, id: u64) -> Result<Arc<Core>> {
        let open = self.open.lock();
        open.get(&VolumeId(id))
            .map(|o| o.core.clone())
            .ok_or_else(|| {
                Error::corrupt(
                    "the log",
                    format!("a record names volume {id}, which is not there"),
                )
            })
    }

    pub(super) fn born(&self, id: u64, seq: u64) {
        if let Ok(core) = self.opened(id) {
            core.set_born_seq(seq);
        }
    }
}

fn info(r: &dyn Read, id: VolumeId) -> Result<VolumeInfo> {
    Ok(catalog::volume_item(r, id)?.info(id, &catalog::root_item(r, id)?.unwrap_or_default()))
}

type Portion = (Vec<(VolumeId, VolumeItem, RootItem)>, Option<Key>);

/// Some volumes from a key on, and where to go on.
fn portion(r: &dyn Read, from: Key) -> Result<Portion> {
    let mut list: Vec<(VolumeId, VolumeItem, RootItem)> = Vec::new();
    let mut at = from;
    loop {
        let Some((k, v)) = r.next(&at)? else {
            return Ok((list, None));
        };
        // Skip what is not a volume's own key by jumping to the next possible one.
        let next = match k.kind {
            kind::VOLUME if k.object != 0 => {
                let id = VolumeId(k.object);
                let root = catalog::root_item(r, id)?.unwrap_or_default();
                list.push((id, VolumeItem::decode(&v)?, root));
                k.object
                    .checked_add(1)
                    .map(|o| Key::new(o, kind::VOLUME, 0))
            }
            k_kind if k.object != 0 && k_kind < kind::VOLUME => {
                Some(Key::new(k.object, kind::VOLUME, 0))
            }
            _ => k
                .object
                .checked_add(1)
                .map(|o| Key::new(o, kind::VOLUME, 0)),
        };
        match next {
            Some(n) => at = n,
            None => return Ok((list, None)),
        }
        if list.len() >= 256 {
            return Ok((list, Some(at)));
        }
    }
}

fn remove_name(
    op: &mut super::Op<'_>,
    hash_key: &[u8; 16],
    id: VolumeId,
    name: &str,
) -> Result<()> {
    if let Found::At(at, found) = catalog::find_name(op, hash_key, name)?
        && found == id
    {
        op.delete(at);
    }
    Ok(())
}

impl Kind {
    pub fn word(self) -> &'static str {
        match self {
            Kind::Image => "image",
            Kind::Container => "container",
            Kind::Layer => "layer",
            Kind::Snapshot => "snapshot",
        }
    }
}
