//! Failures of a PostgreSQL that runs: callers get an error, nothing acknowledged is lost, and the server recovers
//! without a restart.

use std::{
    collections::HashSet,
    fs,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use jobqueue_shared::proto::v1::{GetJobRequest, SubmitJobRequest};
use jobqueue_test_postgres::{Cluster, Setup};
use jobqueue_tests::{
    api::{Api, job},
    disk::SmallDisk,
    poll::{PATIENCE, eventually, within},
    proxy::Proxy,
    server::Server,
    strace::FailingSyncs,
};
use sqlx::{Connection as _, PgConnection};
use tonic::Code;

use crate::{
    deployment::WORKER_ID,
    faults::outage::{blocking, healthy, not_ready, on_a_cluster, on_a_cluster_of_its_own, tells_when_to_try_again},
};

fn settings(settings: &[(&str, &str)]) -> Vec<(String, String)> {
    settings.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect()
}

async fn query(cluster: &Arc<Cluster>, sql: &'static str) -> String {
    let cluster = Arc::clone(cluster);
    blocking(move || cluster.query(sql).unwrap()).await
}

async fn session(cluster: &Cluster) -> Result<PgConnection, sqlx::Error> {
    PgConnection::connect(&cluster.url("jobs")).await
}

async fn all_there(api: &Api, ids: &[String]) {
    for id in ids {
        assert_eq!(api.get(id).await.job.unwrap().id, *id);
    }
}

/// Stops the server in order, checks its stored data, and then removes the cluster.
async fn over(server: Server, cluster: Arc<Cluster>) {
    server.stop_and_check().await;
    blocking(move || drop(cluster)).await;
}

/// Process ids of the backends that serve the server's connections.
async fn backends(cluster: &Arc<Cluster>) -> HashSet<String> {
    let pids = query(cluster, "SELECT pid FROM pg_stat_activity WHERE application_name = 'jobqueue'").await;
    pids.lines().map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_only_reads_is_told_and_its_connections_are_given_up() {
    let (cluster, server) = on_a_cluster_of_its_own().await;
    let cluster = Arc::new(cluster);
    let api = server.api();
    let mut ids = vec![api.submit(job(WORKER_ID, "{}")).await];
    let before = backends(&cluster).await;

    query(&cluster, "ALTER SYSTEM SET default_transaction_read_only = on").await;
    query(&cluster, "SELECT pg_reload_conf()").await;
    let status = eventually("writing is refused", async || match api.try_submit(job(WORKER_ID, "{}")).await {
        Ok(id) => {
            ids.push(id);
            None
        }
        Err(status) => Some(status),
    })
    .await;
    tells_when_to_try_again(&status, Code::Unavailable);
    not_ready(&server).await;
    all_there(&api, &ids).await;
    // After a failover the address may lead to another server, which only new connections reach.
    eventually("every connection of before is given up", async || {
        backends(&cluster).await.is_disjoint(&before).then_some(())
    })
    .await;

    let it = Arc::clone(&cluster);
    blocking(move || {
        let folder = it.folder().unwrap().join("data/postgresql.auto.conf");
        fs::write(folder, "").unwrap();
    })
    .await;
    query(&cluster, "SELECT pg_reload_conf()").await;
    healthy(&api).await;
    ids.push(api.submit(job(WORKER_ID, "{}")).await);
    all_there(&api, &ids).await;
    over(server, cluster).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_are_used_up_are_told_and_their_return_noticed() {
    let limits = settings(&[("max_connections", "25"), ("superuser_reserved_connections", "0")]);
    let (cluster, server) = on_a_cluster(Setup { settings: limits, ..Setup::default() }).await;
    let cluster = Arc::new(cluster);
    let api = server.api();
    let first = api.submit(job(WORKER_ID, "{}")).await;

    // Other sessions take every connection that there is, the server's included.
    let mut ours = session(&cluster).await.unwrap();
    let mut others = Vec::new();
    eventually("the server has no connection", async || {
        sqlx::raw_sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'jobqueue'")
            .execute(&mut ours)
            .await
            .unwrap();
        while let Ok(other) = session(&cluster).await {
            others.push(other);
        }
        let left: i64 = sqlx::query_scalar("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'jobqueue'")
            .fetch_one(&mut ours)
            .await
            .unwrap();
        (left == 0).then_some(())
    })
    .await;
    let status = api.try_submit(job(WORKER_ID, "{}")).await.unwrap_err();
    tells_when_to_try_again(&status, Code::Unavailable);
    not_ready(&server).await;

    for other in others {
        other.close().await.unwrap();
    }
    ours.close().await.unwrap();
    healthy(&api).await;
    let second = api.submit(job(WORKER_ID, "{}")).await;
    all_there(&api, &[first, second]).await;
    over(server, cluster).await;
}

/// A statement waits for a lock that a person has forgotten.
#[tokio::test(flavor = "multi_thread")]
async fn a_lock_that_somebody_else_holds_is_not_waited_for_for_ever() {
    let (cluster, server) = on_a_cluster_of_its_own().await;
    let cluster = Arc::new(cluster);
    let api = server.api();
    let first = api.submit(job(WORKER_ID, "{}")).await;
    let mut other = session(&cluster).await.unwrap();
    sqlx::raw_sql("BEGIN; LOCK TABLE jobs IN ACCESS EXCLUSIVE MODE").execute(&mut other).await.unwrap();
    let status = api.try_submit(job(WORKER_ID, "{}")).await.unwrap_err();
    tells_when_to_try_again(&status, Code::Unavailable);
    let status = api.jobs().get_job(GetJobRequest { job_id: first.clone() }).await.unwrap_err();
    tells_when_to_try_again(&status, Code::Unavailable);
    sqlx::raw_sql("ROLLBACK").execute(&mut other).await.unwrap();
    other.close().await.unwrap();
    let second = api.submit(job(WORKER_ID, "{}")).await;
    all_there(&api, &[first, second]).await;
    healthy(&api).await;
    over(server, cluster).await;
}

/// Job with a payload that cannot be compressed.
fn large(kib: usize, seed: u64) -> SubmitJobRequest {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut letter = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from(b'0' + u8::try_from((state >> 33) % 75).unwrap())
    };
    let text: String = (0..kib * 1024).map(|_| letter()).filter(|letter| !matches!(letter, '\\' | '"')).collect();
    job(WORKER_ID, &format!("\"{text}\""))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_told_until_there_is_room_again() {
    let disk = SmallDisk::mount(256);
    // The table is extended before its rows are on disk, so that it needs its space at once.
    let setup = Setup {
        settings: settings(&[("autovacuum", "off"), ("max_wal_size", "64MB"), ("checkpoint_timeout", "1h")]),
        parent: Some(disk.path().to_owned()),
    };
    let (cluster, server) = on_a_cluster(setup).await;
    let cluster = Arc::new(cluster);
    let api = server.api();
    // The log has a file with space, so that the tables run out of space first.
    query(&cluster, "SELECT pg_switch_wal()").await;
    query(&cluster, "CHECKPOINT").await;
    let mut ids = vec![api.submit(large(150, 0)).await];
    disk.fill(2);
    let mut seed = 0;
    let status = loop {
        seed += 1;
        match api.try_submit(large(150, seed)).await {
            Ok(id) => ids.push(id),
            Err(status) => break status,
        }
    };
    tells_when_to_try_again(&status, Code::ResourceExhausted);
    not_ready(&server).await;
    all_there(&api, &ids).await;

    disk.free();
    healthy(&api).await;
    ids.push(api.submit(large(150, seed)).await);
    all_there(&api, &ids).await;
    assert_eq!(api.metrics().await.total as usize, ids.len(), "a refused submit has left nothing");
    over(server, cluster).await;
    drop(disk);
}

/// PostgreSQL does not trust its page cache after a failed fsync: it ends all processes, and recovers from its log.
#[tokio::test(flavor = "multi_thread")]
async fn a_sync_that_fails_is_never_an_acknowledgement() {
    let (cluster, server) = on_a_cluster_of_its_own().await;
    let cluster = Arc::new(cluster);
    let api = server.api();
    let mut ids = vec![api.submit(job(WORKER_ID, "{}")).await];

    // The present backends, and not the postmaster: processes that it starts afterwards can sync again.
    let mut pids = Vec::new();
    for pid in backends(&cluster).await {
        pids.push(pid.parse().unwrap());
    }
    let failing = FailingSyncs::of(&pids).await;
    let log = cluster.folder().unwrap().join("server.log");
    within(2 * PATIENCE, "a sync has failed", async || {
        // Only a job that is stored after the recovery was answered OK.
        match api.try_submit(job(WORKER_ID, "{}")).await {
            Ok(id) => ids.push(id),
            Err(status) => tells_when_to_try_again(&status, Code::Unavailable),
        }
        let log = fs::read_to_string(&log).unwrap();
        (log.contains("PANIC") && log.contains("could not f")).then_some(())
    })
    .await;
    assert!(failing.failed() > 0);
    failing.stop().await;
    // Health is up to a second old, so it may still be that of before the crash.
    ids.push(eventually("submits are stored again", async || api.try_submit(job(WORKER_ID, "{}")).await.ok()).await);
    healthy(&api).await;
    all_there(&api, &ids).await;
    over(server, cluster).await;
}

/// PostgreSQL reports a commit as done, with a warning only, when its wait for a standby is cancelled.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_no_standby_has_is_never_an_acknowledgement() {
    let (cluster, standby) = blocking(|| {
        let cluster = Cluster::start().unwrap_or_else(|error| panic!("no PostgreSQL to test on: {error}"));
        let standby = cluster.start_standby(&Setup::default()).unwrap();
        cluster.create_database("jobs").unwrap();
        (Arc::new(cluster), Arc::new(standby))
    })
    .await;
    let server = Server::start(&cluster.url("jobs")).await;
    let api = server.api();
    let first = api.submit(job(WORKER_ID, "{}")).await;
    let it = Arc::clone(&standby);
    blocking(move || it.kill9().unwrap()).await;
    let status = api.try_submit(job(WORKER_ID, "{}")).await.unwrap_err();
    tells_when_to_try_again(&status, Code::Unavailable);
    not_ready(&server).await;

    let it = Arc::clone(&standby);
    blocking(move || it.restart().unwrap()).await;
    healthy(&api).await;
    let second = api.submit(job(WORKER_ID, "{}")).await;
    all_there(&api, &[first, second]).await;
    over(server, cluster).await;
    blocking(move || drop(standby)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failover_behind_one_address_loses_nothing_acknowledged() {
    let (primary, standby) = blocking(|| {
        let primary = Cluster::start().unwrap_or_else(|error| panic!("no PostgreSQL to test on: {error}"));
        primary.create_database("jobs").unwrap();
        let standby = primary.start_standby(&Setup::default()).unwrap();
        (Arc::new(primary), Arc::new(standby))
    })
    .await;
    let address = |cluster: &Cluster| SocketAddr::from((Ipv4Addr::LOCALHOST, cluster.port().unwrap()));
    let proxy = Proxy::start(address(&primary)).await.unwrap();
    let server = Server::start(&format!("postgres://postgres@{}/jobs", proxy.addr())).await;
    let api = server.api();
    let mut ids = Vec::new();
    for _ in 0..20 {
        ids.push(api.submit(job(WORKER_ID, "{}")).await);
    }
    let it = Arc::clone(&primary);
    blocking(move || it.kill9().unwrap()).await;
    // The address leads to the standby before that is promoted: it can be read, and not written.
    proxy.retarget(address(&standby));
    not_ready(&server).await;
    eventually("what is acknowledged can be read", async || {
        let request = GetJobRequest { job_id: ids[19].clone() };
        api.jobs().get_job(request).await.ok()
    })
    .await;
    let status = api.try_submit(job(WORKER_ID, "{}")).await.unwrap_err();
    tells_when_to_try_again(&status, Code::Unavailable);
    not_ready(&server).await;

    let it = Arc::clone(&standby);
    blocking(move || it.promote().unwrap()).await;
    healthy(&api).await;
    ids.push(api.submit(job(WORKER_ID, "{}")).await);
    all_there(&api, &ids).await;
    over(server, standby).await;
    blocking(move || drop(primary)).await;
}
