//! Database file: owned by one process, private, and checked to be still the file that its path names.

use std::{
    fs::{self, DirBuilder, File, Metadata, TryLockError},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use jobqueue_store::error::{StoreError, StoreResult};

/// Permissions of the files that this program creates: payloads are private. SQLite gives `-wal` and `-shm` the
/// permissions of the database file.
const FILE_MODE: u32 = 0o600;
const FOLDER_MODE: u32 = 0o700;

/// Identity of a file: device and inode, which do not depend on its names.
type Identity = (u64, u64);

/// The database file while this process owns it. The lock is on the file itself, so that it holds under whatever name
/// or link another process finds the file.
///
/// Closing any descriptor of a file drops the POSIX locks that SQLite has on it, so this must be opened before SQLite's
/// connections and dropped after them, and nothing else in this process may open the file.
pub(crate) struct OwnedFile {
    /// Path as the configuration names it.
    path: PathBuf,
    /// Files that SQLite works on (the database, `-wal` and `-shm`), with their identities when they were opened.
    files: Vec<(PathBuf, Identity)>,
    _lock: File,
}

impl OwnedFile {
    /// Creates the file and its folder if they are missing, and locks the file. The lock ends with the process, however
    /// that ends.
    pub(crate) fn lock(path: &Path) -> StoreResult<Self> {
        make_folder(path)?;
        let startup = |what: &str, error: std::io::Error| {
            StoreError::Startup(format!("cannot {what} {}: {error}", path.display()))
        };
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(FILE_MODE)
            .open(path)
            .map_err(|error| startup("open", error))?;
        let metadata = file.metadata().map_err(|error| startup("open", error))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let owner = owner(identity(&metadata)).map(|pid| format!(" (pid {pid})")).unwrap_or_default();
                return Err(StoreError::Startup(format!(
                    "{} is in use by another jobqueue server{owner}: stop that one, or use PostgreSQL for several servers",
                    path.display(),
                )));
            }
            Err(TryLockError::Error(error)) => return Err(startup("lock", error)),
        }
        if metadata.nlink() > 1 {
            return Err(StoreError::Startup(format!(
                "{} has {} names (hard links): SQLite keeps its log beside the name that it was opened by, and would \
                 lose what is in the log of another; leave one name",
                path.display(),
                metadata.nlink()
            )));
        }
        if metadata.permissions().mode() & 0o077 != 0 {
            tracing::warn!(
                file = %path.display(),
                "other users of this machine can read or write the database: chmod 600 it, and its -wal and -shm"
            );
        }
        let real = fs::canonicalize(path).map_err(|error| startup("open", error))?;
        Ok(Self { path: path.to_owned(), files: vec![(real, identity(&metadata))], _lock: file })
    }

    /// Remembers the log and the shared memory that SQLite has made beside the database.
    pub(crate) fn opened(&mut self) -> StoreResult<()> {
        let Some((database, _)) = self.files.first().cloned() else { return Ok(()) };
        for suffix in ["-wal", "-shm"] {
            let mut name = database.clone().into_os_string();
            name.push(suffix);
            let file = PathBuf::from(name);
            let metadata = fs::metadata(&file)
                .map_err(|error| StoreError::Startup(format!("cannot find {}: {error}", file.display())))?;
            self.files.push((file, identity(&metadata)));
        }
        Ok(())
    }

    /// Size of the log in bytes.
    pub(crate) fn log_bytes(&self) -> u64 {
        self.files.get(1).and_then(|(log, _)| fs::metadata(log).ok()).map_or(0, |metadata| metadata.len())
    }

    /// Fails if the files are no longer those that were opened: writes to these are lost when the process ends. It
    /// takes microseconds, because it only asks the file system's cache.
    pub(crate) fn verify(&self) -> StoreResult<()> {
        let configured = self.files.first().map(|(_, opened)| (&self.path, opened));
        for (path, opened) in configured.into_iter().chain(self.files.iter().map(|(path, opened)| (path, opened))) {
            let found = fs::metadata(path).ok().as_ref().map(identity);
            if found != Some(*opened) {
                let what = if found.is_some() { "is another file now" } else { "was removed or moved" };
                return Err(StoreError::Unavailable(format!(
                    "{} {what} while the server works on it, and nothing is acknowledged any more: move the database \
                     back with its -wal and -shm, or stop the server and restore a backup",
                    path.display()
                )));
            }
        }
        Ok(())
    }
}

fn identity(metadata: &Metadata) -> Identity {
    (metadata.dev(), metadata.ino())
}

fn make_folder(path: &Path) -> StoreResult<()> {
    let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) else { return Ok(()) };
    DirBuilder::new()
        .recursive(true)
        .mode(FOLDER_MODE)
        .create(folder)
        .map_err(|error| StoreError::Startup(format!("cannot make the folder {}: {error}", folder.display())))
}

/// Id of the process that holds the lock, from a line of /proc/locks: `1: FLOCK ADVISORY WRITE 4711 fd:01:131 0 EOF`.
fn owner((device, inode): Identity) -> Option<u32> {
    let file = format!("{:02x}:{:02x}:{inode}", rustix::fs::major(device), rustix::fs::minor(device));
    let find = || {
        let locks = fs::read_to_string("/proc/locks").ok()?;
        locks.lines().find_map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            (words.get(1) == Some(&"FLOCK") && words.get(5) == Some(&file.as_str()))
                .then(|| words.get(4)?.parse().ok())?
        })
    };
    // The list is read in parts, and misses a lock if others come and go in between.
    (0..10).find_map(|_| find())
}

/// Creates an empty private file for a backup. The path must not exist, not even as a link that leads nowhere.
pub(crate) fn create_new(path: &Path) -> std::io::Result<File> {
    File::options().write(true).create_new(true).mode(FILE_MODE).open(path)
}

/// Waits until the file and its name are on disk.
pub(crate) fn sync(path: &Path) -> std::io::Result<()> {
    File::open(path)?.sync_all()?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn the_owner_is_known_by_the_file_and_not_by_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let [file, link] = ["jobs.db", "link.db"].map(|name| folder.path().join(name));
        let owned = OwnedFile::lock(&file).unwrap();
        symlink(&file, &link).unwrap();
        for path in [&file, &link, &folder.path().join("../").join(folder.path().file_name().unwrap()).join("jobs.db")]
        {
            let error = OwnedFile::lock(path).err().unwrap().to_string();
            assert!(error.contains(&format!("pid {}", std::process::id())), "{error}");
        }
        drop(owned);
        OwnedFile::lock(&link).unwrap();
    }

    #[test]
    fn a_file_with_two_names_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let [file, name] = ["jobs.db", "other.db"].map(|name| folder.path().join(name));
        drop(OwnedFile::lock(&file).unwrap());
        fs::hard_link(&file, &name).unwrap();
        let error = OwnedFile::lock(&name).err().unwrap().to_string();
        assert!(error.contains("has 2 names"), "{error}");
    }

    #[test]
    fn what_is_made_is_private() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a/b/jobs.db");
        let _owned = OwnedFile::lock(&file).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&file), mode(file.parent().unwrap())), (0o600, 0o700));
        let backup = folder.path().join("backup.db");
        drop(create_new(&backup).unwrap());
        assert_eq!(mode(&backup), 0o600);
        let dangling = folder.path().join("dangling.db");
        symlink(folder.path().join("nowhere"), &dangling).unwrap();
        assert_eq!(create_new(&dangling).unwrap_err().kind(), std::io::ErrorKind::AlreadyExists);
    }
}
