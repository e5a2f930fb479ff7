//! Small disk that can be filled: a file system in memory, mounted for one test and removed with it.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

const MIB: usize = 1024 * 1024;

/// A mounted file system of a few MiB that every user may enter.
#[derive(Debug)]
pub struct SmallDisk {
    folder: TempDir,
}

impl SmallDisk {
    /// Mounts a file system. Panics where that is not allowed.
    pub fn mount(mib: usize) -> Self {
        let folder = tempfile::Builder::new().prefix("jobqueue-disk-").tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={mib}m,mode=0755"), "tmpfs"]).arg(folder.path());
        let output = mount.output().unwrap_or_else(|error| panic!("there is no mount: {error}"));
        let why = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "a full disk is tried on a tmpfs, which only root may mount: {}", why.trim());
        Self { folder }
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Fills it except for about `mib` MiB.
    pub fn fill(&self, mib: usize) {
        let used = rustix::fs::statvfs(self.path()).unwrap();
        let free = usize::try_from(used.f_bavail * used.f_frsize).unwrap();
        let size = free.checked_sub(mib * MIB).expect("less is free than shall stay free");
        fs::write(self.ballast(), vec![0; size]).unwrap();
        fs::set_permissions(self.ballast(), fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// Frees the space again.
    pub fn free(&self) {
        fs::remove_file(self.ballast()).unwrap();
    }

    fn ballast(&self) -> PathBuf {
        self.path().join("ballast")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily, because a process that still has a file open there may end later.
        let unmounted = Command::new("umount").arg("--lazy").arg(self.path()).status();
        if !unmounted.is_ok_and(|status| status.success()) {
            eprintln!("{} stays mounted", self.path().display());
        }
    }
}
