//! Limit of the disk: writes that are synced one after the other.

use std::{
    fs::{self, File},
    io::{Seek as _, SeekFrom, Write as _},
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

/// Size in bytes of a page of PostgreSQL's log.
const BLOCK: usize = 8 * 1024;

/// Number of blocks of 8 KiB per second that are written and synced to disk, one after the other.
pub(crate) fn fdatasyncs(folder: &Path, time: Duration) -> Result<f64> {
    let path = folder.join("fdatasync");
    let mut file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
    let block = [7_u8; BLOCK];
    // Existing blocks are overwritten, as in a log.
    let blocks = 2_048;
    for _ in 0..blocks {
        file.write_all(&block)?;
    }
    file.sync_all()?;
    let begun = Instant::now();
    let mut count = 0_u64;
    while begun.elapsed() < time {
        if count.is_multiple_of(blocks) {
            file.seek(SeekFrom::Start(0))?;
        }
        file.write_all(&block)?;
        file.sync_data()?;
        count += 1;
    }
    let rate = count as f64 / begun.elapsed().as_secs_f64();
    fs::remove_file(path)?;
    Ok(rate)
}
