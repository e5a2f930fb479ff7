//! Context of every scenario: the options of the run, its databases, and the limits that it has measured.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use anyhow::{Context as _, Result};

use crate::{
    measure::{machine, report::Report},
    under_test::{
        database::{Database, Store},
        postgres::Postgres,
        server::Server,
    },
};

/// Options of a run, its databases, and the limits that it has measured.
pub struct Bench {
    pub quick: bool,
    pub stores: Vec<Store>,
    pub postgres: Option<Arc<Postgres>>,
    /// Folder in which results are written.
    pub folder: PathBuf,
    /// Folder with the programs of the peers; without it they are not measured.
    pub peers: Option<PathBuf>,
    pub machine: BTreeMap<String, String>,
    /// Figures that the limits scenario measured in this run, by name.
    pub limits: BTreeMap<String, f64>,
}

impl Bench {
    /// Returns `quick` in a quick run, else `full`.
    pub fn pick<T>(&self, quick: T, full: T) -> T {
        if self.quick { quick } else { full }
    }

    /// Number of times that each figure is measured.
    pub fn repeats(&self) -> usize {
        self.pick(1, 3)
    }

    /// Stores for scenarios that wait more than they work; a quick run has time for one store only.
    pub fn stores_for_idle_scenarios(&self) -> &[Store] {
        let count = self.pick(1, self.stores.len());
        self.stores.get(..count).unwrap_or(&self.stores)
    }

    pub fn limit(&self, name: &str) -> Option<f64> {
        self.limits.get(name).copied()
    }

    pub fn report(&self, scenario: &str) -> Report {
        let stores = self.stores.iter().map(|store| store.name().to_owned()).collect();
        let mut machine = self.machine.clone();
        if let Some(load) = machine::load() {
            machine.insert("load before".to_owned(), format!("{load:.2}"));
        }
        Report { quick: self.quick, stores, machine, ..Report::new(scenario) }
    }

    pub fn postgres(&self) -> Result<&Arc<Postgres>> {
        self.postgres.as_ref().context("this needs PostgreSQL")
    }

    /// Makes an empty database.
    pub async fn empty_database(&self, store: Store) -> Result<Database> {
        match store {
            Store::Sqlite => Database::in_file(),
            Store::Postgres => {
                let postgres = self.postgres()?;
                let database = Database::in_cluster(postgres)?;
                postgres.checkpoint().await?;
                Ok(database)
            }
        }
    }

    /// Starts a server on an empty database.
    pub async fn start_server(&self, store: Store) -> Result<(Database, Server)> {
        start_on(self.empty_database(store).await?).await
    }

    /// Starts a server on an empty database that shares nothing with others: in PostgreSQL, it has a cluster of its
    /// own.
    pub async fn start_server_apart(&self, store: Store) -> Result<(Database, Server)> {
        start_on(match store {
            Store::Sqlite => Database::in_file()?,
            Store::Postgres => Database::in_cluster(&Arc::new(Postgres::start().await?))?,
        })
        .await
    }
}

async fn start_on(database: Database) -> Result<(Database, Server)> {
    let server = Server::start(&database, &[]).await?;
    Ok((database, server))
}
