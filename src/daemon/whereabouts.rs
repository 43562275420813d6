//! What differs between two volumes, and where a file lives.

use super::files;
use super::lineage::Lineage;
use super::proto::{OwnedPiece, Part, Pieces, Raw, Response};
use super::resolve;
use super::session::Talk;
use super::state::State;
use crate::base::{Error, Ino, Result};
use crate::fs::{ChangeKind, Fs, Piece};
use crate::pool::VolumeInfo;
use std::collections::BTreeMap;
use std::sync::Arc;

pub(super) fn diff(talk: &Talk<'_>, name: &str, base: Option<&str>) -> Result<Response> {
    let state = talk.state;
    let of = resolve::any(&state.pool, name)?;
    let base = match base {
        Some(b) => resolve::any(&state.pool, b)?,
        None => {
            let line = Lineage::look(&state.pool)?;
            let found = match of.kind {
                crate::pool::Kind::Image | crate::pool::Kind::Layer => {
                    of.source.and_then(|s| line.get(s))
                }
                _ => line.image_of(&state.pool, &of)?,
            };
            found.cloned().ok_or_else(|| {
                Error::NotFound(format!(
                    "what {} was made from is gone; name what to compare it with",
                    of.name
                ))
            })?
        }
    };
    // What the kernel still keeps of writes belongs to the answer.
    state.mounts.flush(of.id);
    state.mounts.flush(base.id);
    let (a, b) = (state.mounts.fs(base.id)?, state.mounts.fs(of.id)?);
    for (kind, path) in crate::fs::diff(&a, &b)? {
        let kind = match kind {
            ChangeKind::Added => "A",
            ChangeKind::Changed => "C",
            ChangeKind::Deleted => "D",
        };
        talk.part(Part::Change {
            kind: kind.into(),
            path: Raw(path),
        })?;
    }
    Ok(Response::Done)
}

/// Pieces told of one file at most: an answer is one line.
const PIECES_MAX: usize = 16_384;

pub(super) fn map(state: &State, name: &str, path: &Raw) -> Result<Response> {
    let v = resolve::any(&state.pool, name)?;
    let fs = state.mounts.fs(v.id)?;
    let attr = files::walk(&fs, path.as_bytes(), true)?.attr;
    if attr.mode & libc::S_IFMT != libc::S_IFREG {
        return Err(Error::Invalid(format!(
            "{path} is not a regular file: it has no blocks"
        )));
    }
    state.mounts.flush_file(v.id, attr.ino);
    let attr = fs.attr(attr.ino)?;
    let pieces = fs.pieces(attr.ino, 0..attr.size)?;
    if pieces.len() > PIECES_MAX {
        return Err(Error::Invalid(format!(
            "{path} is in {} pieces, more than can be told at once",
            pieces.len()
        )));
    }
    let owners = owners(state, &v, attr.ino, &pieces)?;
    let pieces = pieces
        .iter()
        .zip(owners)
        .map(|(p, owner)| OwnedPiece {
            file_offset: p.file_offset,
            length: p.length,
            inline: p.inline,
            virtual_block: p.virtual_block,
            chunk: p.chunk,
            physical: p.physical,
            shared: p.shared,
            owner: Some(owner),
        })
        .collect();
    Ok(Response::Pieces(Pieces {
        volume: v.name.clone(),
        id: v.id,
        path: path.clone(),
        inode: attr.ino,
        size: attr.size,
        chunk_size: state.pool.chunk_size(),
        pieces,
    }))
}

/// Who wrote each piece: the farthest source that has the same bytes at the same place. A source that
/// is gone cannot be asked; then the nearest that exists is named.
fn owners(state: &State, v: &VolumeInfo, ino: Ino, pieces: &[Piece]) -> Result<Vec<String>> {
    let mut owners = vec![v.name.clone(); pieces.len()];
    if !pieces.iter().any(|p| p.shared) {
        return Ok(owners);
    }
    let line = Lineage::look(&state.pool)?;
    let mut open: Vec<bool> = pieces.iter().map(|p| p.shared).collect();
    for source in line.sources(v) {
        if source.removing || !open.contains(&true) {
            break;
        }
        let theirs = places(&state.mounts.fs(source.id)?, ino)?;
        for ((p, owner), open) in pieces.iter().zip(&mut owners).zip(&mut open) {
            *open = *open && holds(&theirs, p);
            if *open {
                owner.clone_from(&source.name);
            }
        }
    }
    Ok(owners)
}

/// Start in the file -> piece; an inode that does not exist there has none.
fn places(fs: &Arc<Fs>, ino: Ino) -> Result<BTreeMap<u64, Piece>> {
    let size = match fs.attr(ino) {
        Ok(a) if a.mode & libc::S_IFMT == libc::S_IFREG => a.size,
        Ok(_) | Err(Error::Posix(_) | Error::NotFound(_)) => return Ok(BTreeMap::new()),
        Err(e) => return Err(e),
    };
    Ok(fs
        .pieces(ino, 0..size)?
        .into_iter()
        .map(|p| (p.file_offset, p))
        .collect())
}

fn holds(theirs: &BTreeMap<u64, Piece>, p: &Piece) -> bool {
    let Some((start, t)) = theirs.range(..=p.file_offset).next_back() else {
        return false;
    };
    let into = p.file_offset - start;
    into < t.length
        && t.inline == p.inline
        && (p.inline || t.physical.checked_add(into) == Some(p.physical))
}
