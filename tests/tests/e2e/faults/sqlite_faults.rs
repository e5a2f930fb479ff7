//! Failures of the SQLite file and its disk: callers get an error, nothing acknowledged is lost, and the server
//! recovers without a restart.

use std::{
    fs::{self, File},
    io::{Seek as _, SeekFrom, Write as _},
    os::unix::fs::{PermissionsExt as _, symlink},
    path::Path,
};

use jobqueue_shared::proto::v1::SubmitJobRequest;
use jobqueue_tests::{
    api::{Api, job},
    database::{Database, Driver},
    disk::SmallDisk,
    poll::eventually,
    process::Process,
    server::Server,
    strace::FailingSyncs,
    web::get,
};
use tonic::Code;

use crate::{
    deployment::WORKER_ID,
    faults::outage::{healthy, not_ready, tells_when_to_try_again},
};

fn large(kib: usize) -> SubmitJobRequest {
    job(WORKER_ID, &format!("\"{}\"", "x".repeat(kib * 1024)))
}

async fn all_there(api: &Api, ids: &[String]) {
    for id in ids {
        assert_eq!(api.get(id).await.job.unwrap().id, *id);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_told_until_there_is_room_again() {
    let disk = SmallDisk::mount(64);
    let server = Server::start(&format!("sqlite://{}/jobqueue.db", disk.path().display())).await;
    let api = server.api();
    disk.fill(4);
    let mut ids = Vec::new();
    let status = loop {
        match api.try_submit(large(200)).await {
            Ok(id) => ids.push(id),
            Err(status) => break status,
        }
    };
    tells_when_to_try_again(&status, Code::ResourceExhausted);
    assert!(!ids.is_empty(), "it was full from the start");
    not_ready(&server).await;
    // Reads still work, and the server stays not ready, although small writes may find space.
    all_there(&api, &ids).await;
    for _ in 0..3 {
        if let Ok(id) = api.try_submit(job(WORKER_ID, "{}")).await {
            ids.push(id);
        }
    }
    not_ready(&server).await;

    disk.free();
    healthy(&api).await;
    ids.push(api.submit(large(200)).await);
    all_there(&api, &ids).await;
    assert_eq!(api.metrics().await.total as usize, ids.len(), "a refused submit has left nothing");
    assert_eq!(get(server.http_addr(), "/readyz").await.status, 200);
    server.stop_and_check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sync_that_fails_is_never_an_acknowledgement() {
    let database = Database::create(Driver::Sqlite).await;
    let mut server = Server::start(database.url()).await;
    let api = server.api();
    let mut ids = vec![api.submit(large(10)).await];

    let failing = FailingSyncs::of(&[server.id()]).await;
    for _ in 0..3 {
        let status = api.try_submit(large(10)).await.unwrap_err();
        tells_when_to_try_again(&status, Code::Unavailable);
    }
    not_ready(&server).await;
    all_there(&api, &ids).await;
    assert!(failing.failed() >= 3, "no sync has failed");
    failing.stop().await;

    healthy(&api).await;
    for _ in 0..5 {
        ids.push(api.submit(large(10)).await);
    }
    // After a kill, acknowledged jobs can only come from the file, not from the memory of the process.
    server.kill9();
    server.start_again().await;
    all_there(&server.api(), &ids).await;
    server.stop_and_check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_file_is_told_and_takes_the_server_out_of_service() {
    let database = Database::create(Driver::Sqlite).await;
    let mut server = Server::start(database.url()).await;
    let small = server.api().submit(job(WORKER_ID, "{}")).await;
    let damaged = server.api().submit(large(200)).await;
    assert!(server.terminate().await.success());

    // The payload was written last, so its pages are consecutive at the end of the file.
    let mut file = File::options().write(true).open(database.folder().join("jobqueue.db")).unwrap();
    let size = file.metadata().unwrap().len();
    file.seek(SeekFrom::Start(size - 100 * 1024)).unwrap();
    file.write_all(&vec![0xff; 60 * 1024]).unwrap();
    file.sync_all().unwrap();

    server.start_again().await;
    let api = server.api();
    healthy(&api).await;
    all_there(&api, &[small]).await;
    let request = jobqueue_shared::proto::v1::GetJobRequest { job_id: damaged };
    let status = api.jobs().get_job(request).await.unwrap_err();
    assert_eq!(status.code(), Code::DataLoss, "{status:?}");
    not_ready(&server).await;
    assert!(server.stderr().contains("damaged"), "the log says nothing");
    assert!(server.terminate().await.success());
}

/// A backup or a shell holds the write lock.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_another_process_has_locked_is_told_and_its_release_noticed() {
    use sqlx::{Connection as _, SqliteConnection};
    let database = Database::create(Driver::Sqlite).await;
    let server = Server::start(database.url()).await;
    let api = server.api();
    let mut other = SqliteConnection::connect(database.url()).await.unwrap();
    sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut other).await.unwrap();
    let status = api.try_submit(job(WORKER_ID, "{}")).await.unwrap_err();
    tells_when_to_try_again(&status, Code::Unavailable);
    not_ready(&server).await;
    sqlx::raw_sql("ROLLBACK").execute(&mut other).await.unwrap();
    other.close().await.unwrap();
    healthy(&api).await;
    let id = api.submit(job(WORKER_ID, "{}")).await;
    eventually("the job is there", async || api.get(&id).await.job).await;
    server.stop_and_check().await;
}

/// Moves the database with its log and shared memory.
fn move_files(from: &Path, to: &Path) {
    for suffix in ["", "-wal", "-shm"] {
        let name = format!("jobqueue.db{suffix}");
        fs::rename(from.join(&name), to.join(&name)).unwrap();
    }
}

/// Checks that submits fail, that the server becomes not ready, and that the log says why.
async fn lost(server: &Server, api: &Api) {
    let status = api.try_submit(job(WORKER_ID, "{}")).await.unwrap_err();
    tells_when_to_try_again(&status, Code::Unavailable);
    not_ready(server).await;
    let why = "nothing is acknowledged any more";
    eventually("the log says why", async || server.stderr().contains(why).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_acknowledged_into_a_file_that_was_moved_and_all_goes_on_when_it_is_back() {
    let database = Database::create(Driver::Sqlite).await;
    let server = Server::start(database.url()).await;
    let api = server.api();
    let mut ids = vec![api.submit(job(WORKER_ID, "{}")).await];
    let elsewhere = tempfile::tempdir_in(database.folder()).unwrap();
    move_files(&database.folder(), elsewhere.path());
    lost(&server, &api).await;

    move_files(elsewhere.path(), &database.folder());
    healthy(&api).await;
    ids.push(api.submit(job(WORKER_ID, "{}")).await);
    all_there(&api, &ids).await;
    server.stop_and_check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_acknowledged_once_the_file_or_its_log_is_removed_or_replaced() {
    for suffix in ["", "-wal", "-shm"] {
        let database = Database::create(Driver::Sqlite).await;
        let mut server = Server::start(database.url()).await;
        let api = server.api();
        api.submit(job(WORKER_ID, "{}")).await;
        let file = database.folder().join(format!("jobqueue.db{suffix}"));
        fs::remove_file(&file).unwrap();
        lost(&server, &api).await;
        fs::write(&file, "").unwrap();
        let status = api.try_submit(job(WORKER_ID, "{}")).await.unwrap_err();
        tells_when_to_try_again(&status, Code::Unavailable);
        server.kill9();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_server_is_refused_on_the_file_by_whatever_name() {
    let database = Database::create(Driver::Sqlite).await;
    let server = Server::start(database.url()).await;
    let link = database.folder().join("link.db");
    symlink(database.folder().join("jobqueue.db"), &link).unwrap();
    for url in [database.url().to_owned(), format!("sqlite://{}", link.display())] {
        let mut command = jobqueue_tests::server::command(&url);
        let mut second = Process::start(
            "a second server",
            command.args(["--grpc-addr", "127.0.0.1:0", "--http-addr", "127.0.0.1:0"]),
        );
        assert!(!second.ended().await.success());
        let told = second.stderr();
        assert!(told.contains("in use") && told.contains(&format!("pid {}", server.id())), "{told}");
    }
    server.stop_and_check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_else_can_read_the_files() {
    let database = Database::create(Driver::Sqlite).await;
    let folder = database.folder().join("made");
    let file = folder.join("jobs.db");
    let server = Server::start(&format!("sqlite://{}", file.display())).await;
    server.api().submit(job(WORKER_ID, "{}")).await;
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    for suffix in ["", "-wal", "-shm"] {
        assert_eq!(mode(&folder.join(format!("jobs.db{suffix}"))), 0o600, "{suffix}");
    }
    assert_eq!(mode(&folder), 0o700);
    let backup = folder.join("backup.db");
    let mut command = jobqueue_tests::server::command(&format!("sqlite://{}", file.display()));
    let status = Process::start("backup", command.arg("backup").arg(&backup)).ended().await;
    assert!(status.success() && mode(&backup) == 0o600);
    let link = folder.join("link.db");
    symlink(folder.join("nowhere.db"), &link).unwrap();
    let mut command = jobqueue_tests::server::command(&format!("sqlite://{}", file.display()));
    let status = Process::start("backup", command.arg("backup").arg(&link)).ended().await;
    assert!(!status.success() && !folder.join("nowhere.db").exists(), "a backup followed a link");
    server.stop_and_check().await;
}
