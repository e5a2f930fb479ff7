//! Temporary file system (tmpfs) that can be made full.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

/// Bytes left free on a full disk: some writes still succeed, as on a real disk.
const LEFT_BYTES: u64 = 64 * 1024;

/// Unmounts when its pipe closes, however this process ends.
const WATCHDOG: &str = r#"trap '' INT TERM HUP; read -r _; umount --lazy "$1"; rmdir "$1""#;

/// File system in memory. Dropping it, or the end of this process, unmounts it.
#[derive(Debug)]
pub(super) struct Disk {
    path: PathBuf,
    size: u64,
    watchdog: Child,
}

impl Disk {
    pub(super) fn mount(size: u64) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("jobqueue-disk-").tempdir()?.keep();
        let path = folder.canonicalize()?;
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={size},mode=755"), "tmpfs"]).arg(&path);
        if let Err(error) = run(&mut mount) {
            fs::remove_dir(&path)?;
            return Err(error.context("a disk that can be full is a tmpfs, and mounting one takes root"));
        }
        let watchdog = Command::new("sh")
            .args(["-c", WATCHDOG, "jobqueue-disk-watchdog"])
            .arg(&path)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        Ok(Self { path, size, watchdog })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Shrinks the file system to its content and [`LEFT_BYTES`].
    pub(super) fn fill(&self) -> Result<()> {
        // A write between the query and the remount makes the remount fail.
        for _ in 0..20 {
            let stat = rustix::fs::statvfs(&self.path)?;
            let used = (stat.f_blocks - stat.f_bfree) * stat.f_frsize;
            if self.resize(used + LEFT_BYTES).is_ok() {
                return Ok(());
            }
        }
        bail!("{} grows faster than it can be made small", self.path.display())
    }

    /// Restores the original size.
    pub(super) fn empty(&self) -> Result<()> {
        self.resize(self.size)
    }

    fn resize(&self, size: u64) -> Result<()> {
        run(Command::new("mount").args(["-o", &format!("remount,size={size}")]).arg(&self.path))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        drop(self.watchdog.stdin.take());
        let _ = self.watchdog.wait();
    }
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("{command:?}"))?;
    if !output.status.success() {
        bail!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use super::*;

    #[test]
    fn a_full_disk_refuses_what_an_emptied_one_takes_and_nothing_is_left_of_it() {
        let disk = Disk::mount(16 << 20).unwrap();
        let file = disk.path().join("file");
        fs::write(&file, vec![1; 1 << 20]).unwrap();
        disk.fill().unwrap();
        let error = fs::write(disk.path().join("other"), vec![1; 1 << 20]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::StorageFull);
        disk.empty().unwrap();
        fs::write(disk.path().join("other"), vec![1; 1 << 20]).unwrap();
        assert_eq!(fs::read(&file).unwrap().len(), 1 << 20);
        let path = disk.path().to_owned();
        drop(disk);
        assert!(!path.exists());
    }
}
