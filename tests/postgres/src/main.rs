//! Temporary PostgreSQL for experiments: prints its URL and runs until this program ends, however it ends.

use jobqueue_test_postgres::{Cluster, Error};

fn main() -> Result<(), Error> {
    let cluster = Cluster::start()?;
    println!("{}", cluster.url("postgres"));
    println!("{}", cluster.folder()?.display());
    loop {
        std::thread::park();
    }
}
