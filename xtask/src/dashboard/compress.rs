//! Compressed copies beside the dashboard's files, made once, so that the server only picks one.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use flate2::Compression;
use flate2::write::GzEncoder;

/// Maximum size in bytes of files that are not compressed, because they fit into a packet or two as they are.
const MINIMUM_BYTES: usize = 1024;

/// Extensions of files that shrink; images and fonts are compressed already.
const EXTENSIONS: [&str; 10] = ["css", "html", "js", "json", "map", "mjs", "svg", "txt", "wasm", "webmanifest"];

/// Writes `<file>.br` and `<file>.gz` where they are smaller than the file.
pub(crate) fn beside(file: &Path) -> Result<()> {
    if !file.extension().is_some_and(|extension| EXTENSIONS.iter().any(|known| extension == *known)) {
        return Ok(());
    }
    let bytes = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    if bytes.len() <= MINIMUM_BYTES {
        return Ok(());
    }
    for (suffix, compressed) in [("br", brotli(&bytes)?), ("gz", gzip(&bytes)?)] {
        if compressed.len() < bytes.len() {
            let copy = with_suffix(file, suffix);
            fs::write(&copy, compressed).with_context(|| format!("cannot write {}", copy.display()))?;
        }
    }
    Ok(())
}

fn with_suffix(file: &Path, suffix: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    PathBuf::from(name)
}

fn brotli(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut compressed = Vec::new();
    let mut encoder = brotli::CompressorWriter::new(&mut compressed, 64 * 1024, 11, 22);
    encoder.write_all(bytes)?;
    drop(encoder);
    Ok(compressed)
}

fn gzip(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes)?;
    Ok(encoder.finish()?)
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn copies_hold_the_same_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("app.js");
        let text = "const jobs = [1, 2, 3];\n".repeat(200);
        fs::write(&file, &text).unwrap();
        beside(&file).unwrap();

        let mut from_gzip = String::new();
        let gz = fs::read(folder.path().join("app.js.gz")).unwrap();
        flate2::read::GzDecoder::new(&gz[..]).read_to_string(&mut from_gzip).unwrap();
        assert_eq!(from_gzip, text);
        let mut from_brotli = String::new();
        let br = fs::read(folder.path().join("app.js.br")).unwrap();
        brotli::Decompressor::new(&br[..], 4096).read_to_string(&mut from_brotli).unwrap();
        assert_eq!(from_brotli, text);
        assert!(br.len() < text.len() / 10 && gz.len() < text.len() / 10);
    }

    #[test]
    fn small_files_and_pictures_stay_alone() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("small.css"), "a{}").unwrap();
        fs::write(folder.path().join("big.png"), vec![0; 5000]).unwrap();
        for name in ["small.css", "big.png"] {
            beside(&folder.path().join(name)).unwrap();
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }
}
