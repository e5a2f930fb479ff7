//! Database under test: a SQLite file or a database of a PostgreSQL cluster, empty at first.

use std::sync::Arc;

use anyhow::Result;
use tempfile::TempDir;

use super::postgres::Postgres;

/// Store that keeps the jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Store {
    Sqlite,
    Postgres,
}

impl Store {
    pub fn name(self) -> &'static str {
        match self {
            Self::Sqlite => "sqlite",
            Self::Postgres => "postgres",
        }
    }
}

/// Database that is empty at first, and removed when this is dropped.
pub struct Database {
    pub url: String,
    /// Cluster of a database in PostgreSQL.
    cluster: Option<Arc<Postgres>>,
    /// Folder of a database in a file.
    _folder: Option<TempDir>,
}

impl Database {
    pub fn in_cluster(cluster: &Arc<Postgres>) -> Result<Self> {
        Ok(Self { url: cluster.create_database()?, cluster: Some(Arc::clone(cluster)), _folder: None })
    }

    pub fn in_file() -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("jobqueue-bench-").tempdir()?;
        let url = format!("sqlite://{}", folder.path().join("jobs.db").display());
        Ok(Self { url, cluster: None, _folder: Some(folder) })
    }

    /// Cluster of a database in PostgreSQL.
    pub fn cluster(&self) -> Option<&Arc<Postgres>> {
        self.cluster.as_ref()
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if let Some(cluster) = &self.cluster
            && let Err(error) = cluster.drop_database(&self.url)
        {
            eprintln!("{} is left behind: {error:#}", self.url);
        }
    }
}
