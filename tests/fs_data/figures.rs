//! Counts: chunks taken and bytes copied.

use crate::support::*;
use cowfs::fs::{Fallocate, Fs};
use std::sync::Arc;
use std::sync::atomic::Ordering;

fn fresh() -> (World, Arc<Fs>) {
    let w = world(&format());
    let fs = w.volume("v", None);
    (w, fs)
}

/// A file written in one go takes at most this many chunks.
fn chunks_for(kb: u64) -> u64 {
    let (w, fs) = fresh();
    let ino = file(&fs, "f");
    write(&fs, ino, 0, &pattern(kb * KB, kb));
    assert_eq!(fs.attr(ino).unwrap().blocks, kb.div_ceil(4) * 8);
    w.chunks()
}

#[test]
fn one_file_takes_one_chunk_or_two() {
    for kb in [4, 16, 40, 55, 56, 64] {
        assert_eq!(chunks_for(kb), 1, "{kb} KB");
    }
    assert_eq!(chunks_for(65), 2);
    assert_eq!(chunks_for(128), 2);
    assert_eq!(chunks_for(1024), 16);
}

#[test]
fn small_files_are_packed() {
    // Four files of 16 KB are a chunk's worth.
    let (w, fs) = fresh();
    for i in 0..400 {
        write(&fs, file(&fs, &format!("f{i}")), 0, &pattern(16 * KB, i));
    }
    assert_eq!(w.chunks(), 100);
    // Files of 40 KB leave room for smaller neighbours, and never straddle.
    let (w, fs) = fresh();
    for i in 0..100 {
        let ino = file(&fs, &format!("f{i}"));
        write(&fs, ino, 0, &pattern(40 * KB, i));
        let pieces = fs.pieces(ino, 0..u64::MAX).unwrap();
        assert_eq!(pieces.len(), 1, "in one piece");
    }
    assert_eq!(w.chunks(), 100);
    for i in 0..100 {
        write(&fs, file(&fs, &format!("g{i}")), 0, &pattern(8 * KB, i));
    }
    let after = w.chunks();
    assert!(after < 120, "neighbours fill the rest: {after}");
}

/// Space that deleted files leave in packed chunks is found again, in this life and the next.
#[test]
fn freed_blocks_are_used_again() {
    let (w, fs) = fresh();
    let inos: Vec<_> = (0..160).map(|i| file(&fs, &format!("f{i}"))).collect();
    for ino in &inos {
        write(&fs, *ino, 0, &pattern(4 * KB, *ino));
    }
    assert_eq!(w.chunks(), 10);
    for ino in inos.iter().step_by(2) {
        truncate(&fs, *ino, 0);
    }
    assert_eq!(w.chunks(), 10);
    // Not before a checkpoint: the record of the freeing may not be durable.
    for ino in inos.iter().step_by(2).take(16) {
        write(&fs, *ino, 0, &pattern(4 * KB, *ino));
    }
    assert_eq!(w.chunks(), 11);
    w.pool.checkpoint().unwrap();
    w.pool.checkpoint().unwrap();
    for ino in inos.iter().step_by(2) {
        write(&fs, *ino, 0, &pattern(4 * KB, *ino));
    }
    assert_eq!(w.chunks(), 11);
    for ino in inos.iter().step_by(2) {
        truncate(&fs, *ino, 0);
    }
    let id = fs.volume().id();
    drop(fs);
    w.pool.close().unwrap();
    let pool = cowfs::pool::Pool::open(w.devices.clone(), config()).unwrap();
    let w = World { pool, ..w };
    let fs = w.open(id);
    for ino in inos.iter().step_by(2) {
        write(&fs, *ino, 0, &pattern(4 * KB, *ino));
    }
    // The eleventh had nothing else.
    assert_eq!(w.chunks(), 10);
    w.check();
}

/// Appending bit by bit makes one extent; a file that has grown gets chunks of its own.
#[test]
fn appends_stay_together() {
    let (w, fs) = fresh();
    let ino = file(&fs, "log");
    for i in 0..640 {
        write(&fs, ino, i * 4 * KB, &pattern(4 * KB, i));
    }
    let pieces = fs.pieces(ino, 0..u64::MAX).unwrap();
    assert!(pieces.len() <= 2, "{pieces:?}");
    assert_eq!(w.chunks(), 40);
    // Two growing side by side: pieces of whole chunks.
    let (a, b) = (file(&fs, "a"), file(&fs, "b"));
    for i in 0..640 {
        write(&fs, a, i * 4 * KB, &pattern(4 * KB, i));
        write(&fs, b, i * 4 * KB, &pattern(4 * KB, i));
    }
    for ino in [a, b] {
        let n = fs.pieces(ino, 0..u64::MAX).unwrap().len();
        assert!(n <= 60, "{n} pieces of 40 chunks");
    }
    w.check();
}

#[test]
fn big_writes_are_contiguous() {
    let (_w, fs) = fresh();
    let ino = file(&fs, "big");
    for i in 0..64 {
        write(&fs, ino, i * MB, &pattern(MB, i));
    }
    let pieces = fs.pieces(ino, 0..u64::MAX).unwrap();
    assert!(pieces.len() <= 2, "{} pieces", pieces.len());
}

#[test]
fn unwritten_takes_nothing() {
    let (w, fs) = fresh();
    let ino = file(&fs, "sparse");
    truncate(&fs, ino, 1 << 40);
    assert_eq!((w.chunks(), fs.attr(ino).unwrap().blocks), (0, 0));
    let mut buf = vec![1; 300_000];
    assert_eq!(fs.read(ino, (1 << 39) + 5, &mut buf).unwrap(), 300_000);
    assert!(buf.iter().all(|b| *b == 0));
    write(&fs, ino, 1 << 39, b"x");
    assert_eq!((w.chunks(), fs.attr(ino).unwrap().blocks), (1, 8));
    // Random places of a sparse file are packed.
    for i in 0..15 {
        write(&fs, ino, (i * 7919 + 1) * MB, b"y");
    }
    assert_eq!((w.chunks(), fs.attr(ino).unwrap().blocks), (1, 128));
}

fn shared_image(mb: u64) -> (World, Arc<Fs>, Arc<Fs>, u64) {
    let (w, fs) = fresh();
    let ino = file(&fs, "image");
    let data = pattern(MB, 7);
    for i in 0..mb {
        write(&fs, ino, i * MB, &data);
    }
    let clone = w.clone_of(&fs, "c");
    (w, fs, clone, ino)
}

#[test]
fn small_writes_into_a_shared_image() {
    let (w, fs, clone, ino) = shared_image(1024);
    let before = w.chunks();
    assert_eq!(before, 16 * 1024);
    let bytes = || (w.chunks() - before) * 64 * KB;
    // 4 KiB: one block, nothing copied.
    write(&clone, ino, 500 * MB, &pattern(4 * KB, 1));
    assert_eq!((copied(&clone), bytes()), (0, 64 * KB));
    // The next ones share its chunk.
    for i in 0..15 {
        write(
            &clone,
            ino,
            (100 + i * 13) * MB + 8 * KB,
            &pattern(4 * KB, i),
        );
    }
    assert_eq!((copied(&clone), bytes()), (0, 64 * KB));
    assert_eq!(clone.attr(ino).unwrap().blocks, 1024 * 2048);
    w.check();
    assert!(content_is(&fs, ino, 500 * MB, &pattern(MB, 7)));
}

fn content_is(fs: &Fs, ino: u64, offset: u64, want: &[u8]) -> bool {
    fs.read_with(ino, offset, want.len(), |b| b == want)
        .unwrap()
}

#[test]
fn thirty_two_kb_into_a_shared_image() {
    for offset in [0, 32 * KB, 4 * KB, 1, 30 * KB + 77, 64 * KB - 1] {
        let (w, fs, clone, ino) = shared_image(64);
        let before = w.chunks();
        let data = pattern(32 * KB, 3);
        write(&clone, ino, 20 * MB + offset, &data);
        assert!(content_is(&clone, ino, 20 * MB + offset, &data));
        let taken = (w.chunks() - before) * 64 * KB;
        assert!(taken <= 64 * KB, "{taken} bytes for 32 KB at {offset}");
        assert!(copied(&clone) <= 32 * KB, "{} copied", copied(&clone));
        assert!(
            content_is(&fs, ino, 20 * MB, &pattern(MB, 7)),
            "the source is as it was"
        );
        w.check();
    }
}

/// Most of a chunk: the chunk is copied, its extents stay whole. All of it: nothing is copied.
#[test]
fn large_writes_into_a_shared_image() {
    let (w, _fs, clone, ino) = shared_image(64);
    write(&clone, ino, 10 * MB, &pattern(48 * KB, 1));
    assert_eq!(copied(&clone), 16 * KB);
    assert_eq!(
        clone.pieces(ino, 10 * MB..10 * MB + 64 * KB).unwrap().len(),
        1
    );
    let before = copied(&clone);
    write(&clone, ino, 20 * MB, &pattern(8 * MB, 2));
    assert_eq!(copied(&clone), before);
    assert!(content_is(&clone, ino, 20 * MB, &pattern(8 * MB, 2)));
    // Private now: written where it is.
    let chunks = w.chunks();
    write(&clone, ino, 20 * MB, &pattern(8 * MB, 3));
    assert_eq!((w.chunks(), copied(&clone)), (chunks, before));
    assert!(content_is(&clone, ino, 20 * MB, &pattern(8 * MB, 3)));
    w.check();
}

/// Overwriting all of a shared file, block after block, never costs more than its size again.
#[test]
fn rewriting_a_shared_file_block_by_block() {
    let (w, _fs, clone, ino) = shared_image(4);
    let before = w.chunks();
    for i in 0..1024 {
        write(&clone, ino, i * 4 * KB, &pattern(4 * KB, i));
    }
    assert_eq!(w.chunks() - before, 64);
    assert!(copied(&clone) <= 2 * MB, "{}", copied(&clone));
    let pieces = clone.pieces(ino, 0..u64::MAX).unwrap().len();
    assert!(pieces <= 140, "{pieces} pieces");
    w.check();
}

#[test]
fn copies_share_chunks() {
    let (w, fs) = fresh();
    let (a, b) = (file(&fs, "a"), file(&fs, "b"));
    write(&fs, a, 0, &pattern(16 * MB, 1));
    assert_eq!(fs.copy_range(a, 0, b, 0, 100 * MB).unwrap(), 16 * MB);
    assert_eq!(w.chunks(), 256);
    // Also behind a head that shifts everything by a block.
    let c = file(&fs, "c");
    write(&fs, c, 0, &pattern(4 * KB, 5));
    assert_eq!(fs.copy_range(a, 0, c, 4 * KB, 16 * MB).unwrap(), 16 * MB);
    assert_eq!(w.chunks(), 257);
    assert!(content(&fs, b) == pattern(16 * MB, 1));
    assert!(content(&fs, c)[4096..] == pattern(16 * MB, 1));
    // Either side's writes leave the other as it was.
    write(&fs, b, MB, &pattern(MB, 2));
    write(&fs, a, 2 * MB, &pattern(4 * KB, 2));
    assert!(content_is(
        &fs,
        a,
        MB,
        &pattern(16 * MB, 1)[MB as usize..2 * MB as usize]
    ));
    assert!(content_is(
        &fs,
        b,
        2 * MB,
        &pattern(16 * MB, 1)[2 * MB as usize..3 * MB as usize]
    ));
    balanced(&fs, &[a, b, c]);
    w.check();
    for ino in [a, b, c] {
        truncate(&fs, ino, 0);
    }
    w.pool.checkpoint().unwrap();
    assert_eq!(w.chunks(), 0);
}

#[test]
fn tiny_files_live_in_the_tree() {
    let (w, fs) = fresh();
    for i in 0..1000 {
        let ino = file(&fs, &format!("f{i}"));
        write(&fs, ino, 0, &pattern(100 + i, i));
        assert_eq!(fs.attr(ino).unwrap().blocks, 1);
        assert!(content(&fs, ino) == pattern(100 + i, i));
    }
    assert_eq!((w.chunks(), fs.volume().usage().0), (0, 0));
}

#[test]
fn plain_overwrites_write_no_record() {
    let (w, fs) = fresh();
    let ino = file(&fs, "f");
    write(&fs, ino, 0, &pattern(MB, 1));
    let used = w.pool.status().unwrap().log_used;
    for i in 0..100 {
        fs.write(ino, i * 5000, &pattern(5000, i), false, false)
            .unwrap();
    }
    assert_eq!(w.pool.status().unwrap().log_used, used);
}

#[test]
fn allocated_ahead() {
    let (w, fs) = fresh();
    let ino = file(&fs, "f");
    fs.fallocate(ino, 0..100 * MB, Fallocate::Allocate { keep_size: true })
        .unwrap();
    assert_eq!(fs.attr(ino).unwrap().size, 0);
    assert_eq!(w.chunks(), 1600);
    write(&fs, ino, 0, &pattern(100 * MB, 1));
    assert_eq!(w.chunks(), 1600);
    assert!(fs.pieces(ino, 0..u64::MAX).unwrap().len() <= 4);
    assert_eq!(stats(&fs).chunks_allocated.load(Ordering::Relaxed), 1600);
    w.check();
}
