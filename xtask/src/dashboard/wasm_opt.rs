//! Run of wasm-opt on the built WebAssembly, with the page's hash of it kept right.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use sha2::{Digest as _, Sha384};

use crate::process;
use crate::progress::Step;
use crate::setup;
use crate::workspace::Workspace;

/// Options of wasm-opt, with the features that rustc's own output uses. With all features enabled, wasm-opt writes
/// imports that browsers refuse.
pub(super) const OPTIONS: [&str; 7] = [
    "-Oz",
    "--enable-bulk-memory",
    "--enable-multivalue",
    "--enable-mutable-globals",
    "--enable-nontrapping-float-to-int",
    "--enable-reference-types",
    "--enable-sign-ext",
];

/// Shrinks a WebAssembly file in place, where wasm-opt is installed.
pub(super) fn optimise(workspace: &Workspace, wasm: &Path, log: &Path, step: &Step) -> Result<()> {
    let Some(mut command) = setup::wasm_opt(workspace) else { return Ok(()) };
    let before = fs::read(wasm)?;
    let output = wasm.with_extension("optimised");
    process::logged(command.args(OPTIONS).arg(wasm).arg("-o").arg(&output), log, step)?;
    fs::rename(&output, wasm)?;
    // The page contains the hash of the file as trunk wrote it, and a browser refuses a file that does not match.
    let page = workspace.dist().join("index.html");
    let html = fs::read_to_string(&page).with_context(|| format!("cannot read {}", page.display()))?;
    fs::write(&page, html.replace(&integrity(&before), &integrity(&fs::read(wasm)?)))?;
    Ok(())
}

/// Subresource integrity value of `bytes`, as trunk computes it.
fn integrity(bytes: &[u8]) -> String {
    format!("sha384-{}", BASE64_STANDARD.encode(Sha384::digest(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integrity_is_what_browsers_compare() {
        // The known value of an empty file.
        let empty = "sha384-OLBgp1GsljhM2TJ+sbHjaiH9txEUvgdDTAzHv2P24donTt6/529l+9Ua0vFImLlb";
        assert_eq!(integrity(b""), empty);
    }
}
