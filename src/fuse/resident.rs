//! Whether bytes of a mapped window are in memory: a thread that takes requests must not wait for a disk.

/// Smallest page of the machines we run on; a larger one makes the answer coarser, not wrong.
const PAGE: usize = 4096;
/// Pages asked about at once: a whole READ.
const MOST: usize = 512;

/// False where reading these bytes would wait for a disk; the host has been asked to fetch them by then. True also where
/// that cannot be told.
pub(super) fn resident(bytes: &[u8]) -> bool {
    let start = bytes.as_ptr() as usize & !(PAGE - 1);
    let end = bytes.as_ptr() as usize + bytes.len();
    let pages = (end - start).div_ceil(PAGE);
    let mut present = [0u8; MOST];
    if bytes.is_empty() || pages > MOST {
        return true;
    }
    // SAFETY: mincore writes one byte a page of the range into `present`, which has room for them; it reads nothing
    // of the range itself and fails where a part of it is not mapped.
    let told = unsafe {
        libc::mincore(
            start as *mut libc::c_void,
            end - start,
            present.as_mut_ptr(),
        )
    };
    if told != 0 || present.iter().take(pages).all(|p| p & 1 == 1) {
        return true;
    }
    // SAFETY: MADV_WILLNEED changes no memory; it starts reading what the range maps.
    unsafe { libc::madvise(start as *mut libc::c_void, end - start, libc::MADV_WILLNEED) };
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_in_use_is_resident() {
        let bytes = vec![1u8; 100_000];
        assert!(resident(&bytes) && resident(&bytes[17..5000]) && resident(&[]));
    }

    #[test]
    fn a_file_dropped_from_memory_is_not() {
        let file = tempfile::tempfile_in(std::env::temp_dir()).unwrap();
        std::io::Write::write_all(&mut &file, &vec![1u8; 1 << 20]).unwrap();
        file.sync_all().unwrap();
        // SAFETY: nobody else has this file.
        let map = unsafe { memmap2::Mmap::map(&file).unwrap() };
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
        if !resident(&map[4096..500_000]) {
            // Asked for: it comes by itself.
            let end = std::time::Instant::now() + std::time::Duration::from_secs(10);
            while !resident(&map[4096..500_000]) {
                assert!(std::time::Instant::now() < end);
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
        } else {
            // A temporary directory in memory (tmpfs) keeps it.
            assert!(map.iter().all(|b| *b == 1));
        }
    }
}
