//! Record of what was installed from which input.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use sha2::{Digest as _, Sha256};

use crate::workspace::Workspace;

/// Record of the input with which something was installed, so that a change of the input installs it again.
pub(super) struct Stamp {
    file: PathBuf,
    content: String,
}

impl Stamp {
    pub(super) fn new(workspace: &Workspace, name: &str, input: &[u8]) -> Self {
        let digest = Sha256::digest(input);
        let content = digest.iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
        Self { file: workspace.tools().join("stamps").join(name), content }
    }

    pub(super) fn is_current(&self) -> bool {
        std::fs::read_to_string(&self.file).is_ok_and(|content| content == self.content)
    }

    pub(super) fn write(&self) -> Result<()> {
        let folder = self.file.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder)
            .and_then(|()| std::fs::write(&self.file, &self.content))
            .with_context(|| format!("cannot write {}", self.file.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_current_for_its_input_only() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().to_owned();
        let workspace = Workspace { root: target.clone(), target };
        let old = Stamp::new(&workspace, "npm", b"lock 1");
        assert!(!old.is_current());
        old.write().unwrap();
        assert!(old.is_current());
        assert!(!Stamp::new(&workspace, "npm", b"lock 2").is_current());
        assert!(!Stamp::new(&workspace, "other", b"lock 1").is_current());
    }
}
