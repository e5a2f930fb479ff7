//! Empty databases of either driver, removed when they are dropped.

use std::{
    path::PathBuf,
    sync::atomic::{AtomicU32, Ordering},
};

use jobqueue_test_postgres::{Cluster, Pooler};
use tempfile::TempDir;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driver {
    Sqlite,
    Postgres,
    /// `PostgreSQL` behind `PgBouncer` in transaction mode.
    Pooled,
}

/// A database that no other test uses.
#[derive(Debug)]
pub struct Database {
    url: String,
    place: Place,
}

#[derive(Debug)]
enum Place {
    Folder(TempDir),
    Shared(String),
}

impl Database {
    /// Creates a file in a new folder, or a database in the cluster that the tests share. Panics on a machine without
    /// `PostgreSQL`.
    pub async fn create(driver: Driver) -> Self {
        match driver {
            Driver::Sqlite => {
                let folder = tempfile::Builder::new().prefix("jobqueue-test-").tempdir().unwrap();
                let url = format!("sqlite://{}", folder.path().join("jobqueue.db").display());
                Self { url, place: Place::Folder(folder) }
            }
            Driver::Postgres | Driver::Pooled => tokio::task::spawn_blocking(move || {
                static NEXT: AtomicU32 = AtomicU32::new(0);
                let cluster = Cluster::shared().unwrap_or_else(|error| panic!("no PostgreSQL to test on: {error}"));
                let name = format!("test_{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
                let mut url = cluster.create_database(&name).unwrap();
                if driver == Driver::Pooled {
                    url =
                        Pooler::shared().unwrap_or_else(|error| panic!("no PgBouncer to test on: {error}")).url(&name);
                }
                Self { url, place: Place::Shared(name) }
            })
            .await
            .unwrap(),
        }
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// Folder of a `SQLite` database's file, in which a test can keep files until its end.
    pub fn folder(&self) -> PathBuf {
        match &self.place {
            Place::Folder(folder) => folder.path().to_owned(),
            Place::Shared(name) => panic!("{name} is in PostgreSQL"),
        }
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if let Place::Shared(name) = &self.place {
            let dropped = Cluster::shared().map(|cluster| cluster.drop_database(name));
            if let Ok(Err(error)) = dropped {
                eprintln!("{name} is left behind: {error}");
            }
        }
    }
}
