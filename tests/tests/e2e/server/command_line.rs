//! Command lines: the output of the programs for a person who starts them by hand.

use std::{net::TcpListener, process::Command};

use jobqueue_tests::{
    api::job,
    binaries,
    database::{Database, Driver},
    process::Process,
    server::{Server, command},
    web,
};

use crate::deployment::{Deployment, WORKER_ID};

/// Runs a program to its end; returns whether it succeeded, its stdout and its stderr.
async fn run(command: &mut Command) -> (bool, String, String) {
    let mut process = Process::start("a program", command);
    let status = process.ended().await;
    (status.success(), process.stdout(), process.stderr())
}

async fn server(args: &[&str]) -> (bool, String, String) {
    run(Command::new(binaries::server()).args(args)).await
}

/// The single line of a program that does not start.
fn one_line(text: &str) -> &str {
    assert_eq!(text.trim().lines().count(), 1, "{text}");
    text.trim()
}

#[tokio::test]
async fn help_tells_every_option_with_its_variable_and_default() {
    let (ok, help, _) = server(&["--help"]).await;
    assert!(ok);
    for word in [
        "--database-url",
        "JOBQUEUE_DATABASE_URL",
        "sqlite://data/jobqueue.db",
        "--grpc-addr",
        "127.0.0.1:50051",
        "--http-addr",
        "127.0.0.1:8080",
        "--insecure-allow-remote",
        "migrate",
        "backup",
    ] {
        assert!(help.contains(word), "{word}\n{help}");
    }
    let (ok, help, _) = run(Command::new(binaries::worker()).arg("--help")).await;
    assert!(ok);
    for word in ["--worker-id", "--exec", "--http", "--simulate", "--grace", "JOBQUEUE_SERVER", "SIGTERM", "65"] {
        assert!(help.contains(word), "{word}\n{help}");
    }
    for binary in [binaries::server(), binaries::worker()] {
        let (ok, version, _) = run(Command::new(binary).arg("--version")).await;
        assert!(ok && version.contains(env!("CARGO_PKG_VERSION")), "{version}");
    }
}

#[tokio::test]
async fn what_is_wrong_on_the_command_line_is_named() {
    let (ok, _, error) = server(&["--grpc-adr", "127.0.0.1:1"]).await;
    assert!(!ok && error.contains("--grpc-adr") && error.contains("--grpc-addr"), "{error}");
    let (ok, _, error) = server(&["--database-url", "mysql://host/db", "migrate"]).await;
    assert!(!ok && one_line(&error).contains("sqlite://") && error.contains("postgres://"), "{error}");
    let (ok, _, error) = run(Command::new(binaries::worker()).args(["--worker-id", "w"])).await;
    assert!(!ok && error.contains("--exec") && error.contains("--simulate"), "{error}");
    let (ok, _, error) = run(Command::new(binaries::worker()).arg("--simulate")).await;
    assert!(!ok && error.contains("--worker-id"), "{error}");
}

#[tokio::test]
async fn the_url_of_a_database_may_end_with_a_new_line() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}/q.db", folder.path().display());
    let by_variable = |url: &str| {
        let mut command = Command::new(binaries::server());
        command.arg("migrate").env("JOBQUEUE_DATABASE_URL", url);
        command
    };
    for mut command in [by_variable(&format!("{url}\n")), by_variable(&format!(" {url} \r\n"))] {
        let (ok, _, error) = run(&mut command).await;
        assert!(ok, "{error}");
    }
    let (ok, _, error) = server(&["migrate", "--database-url", &format!("{url}\n")]).await;
    assert!(ok, "{error}");
    let names = folder.path().read_dir().unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let names: Vec<String> = names.collect();
    assert!(names.iter().any(|name| name == "q.db") && names.iter().all(|name| name.trim() == name), "{names:?}");
}

#[tokio::test]
async fn booleans_and_empty_variables_are_read_alike_by_server_and_worker() {
    let database = Database::create(Driver::Sqlite).await;
    for yes in ["1", "true", "YES", "on"] {
        let mut open = Process::start(
            "jobqueue-server",
            command(database.url())
                .args(["--grpc-addr", "0.0.0.0:0", "--http-addr", "127.0.0.1:0"])
                .env("JOBQUEUE_INSECURE_ALLOW_REMOTE", yes)
                .envs(["JOBQUEUE_DATABASE_DIRECT_URL", "JOBQUEUE_MAX_CONNECTIONS", "JOBQUEUE_LOG"].map(|it| (it, ""))),
        );
        jobqueue_tests::poll::eventually("it listens", async || {
            assert!(open.has_ended().is_none(), "{yes}: {}", open.stderr());
            open.stdout().contains("0.0.0.0").then_some(())
        })
        .await;
        assert!(open.terminate().await.success());
    }
    for no in ["0", "false", "No", "OFF", ""] {
        let mut refused = command(database.url());
        refused.args(["--grpc-addr", "0.0.0.0:0"]).env("JOBQUEUE_INSECURE_ALLOW_REMOTE", no);
        let (ok, _, error) = run(&mut refused).await;
        assert!(!ok && error.contains("--insecure-allow-remote"), "{no:?}: {error}");
        let mut idle = Command::new(binaries::worker());
        idle.args(["--worker-id", "w"]).env("JOBQUEUE_SIMULATE", no).env("JOBQUEUE_CONCURRENCY", "");
        let (ok, _, error) = run(&mut idle).await;
        assert!(!ok && error.contains("nothing to run"), "{no:?}: {error}");
    }
}

#[tokio::test]
async fn a_wrong_value_of_a_variable_is_refused_with_the_name_of_the_variable() {
    let worker_args: &[&str] = &["--worker-id", "w", "--simulate"];
    for (binary, args, variable, value) in [
        (binaries::server(), &[] as &[&str], "JOBQUEUE_INSECURE_ALLOW_REMOTE", "maybe"),
        (binaries::server(), &[], "JOBQUEUE_MAX_CONNECTIONS", "many"),
        (binaries::server(), &["migrate"], "JOBQUEUE_DATABASE_POOLER", "some"),
        (binaries::server(), &[], "JOBQUEUE_LOG", "info,a=b=c"),
        (binaries::worker(), worker_args, "JOBQUEUE_TAKEOVER", "maybe"),
        (binaries::worker(), worker_args, "JOBQUEUE_CONCURRENCY", "0"),
        (binaries::worker(), worker_args, "JOBQUEUE_LEASE_TIME", "1s"),
        (binaries::worker(), &["--simulate"], "JOBQUEUE_WORKER_ID", "a\nb"),
    ] {
        let (ok, _, error) = run(Command::new(binary).args(args).env(variable, value)).await;
        assert!(!ok && error.contains(variable), "{variable}: {error}");
    }
}

#[tokio::test]
async fn an_address_that_others_can_reach_is_refused_unless_it_is_allowed() {
    let database = Database::create(Driver::Sqlite).await;
    for flag in ["--grpc-addr", "--http-addr"] {
        let (ok, _, error) = run(command(database.url()).args([flag, "0.0.0.0:0"])).await;
        assert!(!ok);
        let line = one_line(&error);
        assert!(line.contains(flag) && line.contains("--insecure-allow-remote"), "{line}");
    }
    let args = ["--grpc-addr", "0.0.0.0:0", "--insecure-allow-remote"];
    // A repeated --grpc-addr is an error, so this server is started without the fixture.
    let mut open =
        Process::start("jobqueue-server", command(database.url()).args(args).args(["--http-addr", "127.0.0.1:0"]));
    jobqueue_tests::poll::eventually("it listens", async || {
        assert!(open.has_ended().is_none(), "it has ended");
        open.stdout().contains("0.0.0.0").then_some(())
    })
    .await;
    jobqueue_tests::poll::eventually("the log says what that means", async || {
        open.stderr().contains("--insecure-allow-remote").then_some(())
    })
    .await;
    assert!(open.terminate().await.success());
}

#[tokio::test]
async fn a_dashboard_of_a_folder_is_served_and_a_wrong_folder_is_refused() {
    let database = Database::create(Driver::Sqlite).await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    let (ok, _, error) = run(command(database.url()).args(["--dashboard-dir", path])).await;
    assert!(!ok);
    let line = one_line(&error);
    assert!(line.contains("--dashboard-dir") && line.contains(path) && line.contains("index.html"), "{line}");

    std::fs::create_dir(folder.path().join("style")).unwrap();
    std::fs::write(folder.path().join("index.html"), "<title>a dashboard of one's own</title>").unwrap();
    std::fs::write(folder.path().join("style/a.css"), "body{}").unwrap();
    let server = Server::start_with(database.url(), &["--dashboard-dir", path]).await;
    for (path, text) in [("/", "<title>a dashboard of one's own</title>"), ("/style/a.css", "body{}")] {
        let answer = web::get(server.http_addr(), path).await;
        assert_eq!((answer.status, answer.text().as_str()), (200, text), "{path}");
    }
    for path in ["/style", "/style/../../etc/passwd", "/../index.html"] {
        assert_eq!(web::get(server.http_addr(), path).await.status, 404, "{path}");
    }
    server.stop_and_check().await;
}

#[tokio::test]
async fn a_port_in_use_is_named_with_the_way_to_another() {
    let database = Database::create(Driver::Sqlite).await;
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap().to_string();
    for (flag, other) in [("--grpc-addr", "--http-addr"), ("--http-addr", "--grpc-addr")] {
        let (ok, _, error) = run(command(database.url()).args([flag, &addr, other, "127.0.0.1:0"])).await;
        assert!(!ok);
        let line = one_line(&error);
        assert!(line.contains(&taken.local_addr().unwrap().port().to_string()) && line.contains(flag), "{line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_server_on_one_file_is_refused_and_the_first_goes_on() {
    let deployment = Deployment::new(Driver::Sqlite).await;
    let args = ["--grpc-addr", "127.0.0.1:0", "--http-addr", "127.0.0.1:0"];
    let (ok, _, error) = run(command(deployment.database.url()).args(args)).await;
    assert!(!ok && one_line(&error).contains(&deployment.server.id().to_string()), "{error}");
    deployment.api.submit(job(WORKER_ID, "{}")).await;
    deployment.stop_and_check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lock_of_a_killed_server_does_not_keep_the_next_one_out() {
    let mut deployment = Deployment::new(Driver::Sqlite).await;
    let id = deployment.api.submit(job(WORKER_ID, "{}")).await;
    deployment.server.kill9();
    deployment.server.start_again().await;
    assert_eq!(deployment.server.api().get(&id).await.job.unwrap().id, id);
    deployment.stop_and_check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_of_a_running_server_is_a_database_of_its_own() {
    let deployment = Deployment::new(Driver::Sqlite).await;
    let id = deployment.api.submit(job(WORKER_ID, "{}")).await;
    let copy = deployment.file("copy.db");
    let (ok, printed, error) = run(command(deployment.database.url()).arg("backup").arg(&copy)).await;
    assert!(ok && printed.contains("copy.db"), "{printed}{error}");
    deployment.api.submit(job(WORKER_ID, "{}")).await;
    let (ok, _, error) = run(command(deployment.database.url()).arg("backup").arg(&copy)).await;
    assert!(!ok && error.contains("copy.db"), "it must not be overwritten: {error}");

    let restored = Server::start(&format!("sqlite://{}", copy.display())).await;
    let api = restored.api();
    assert_eq!(api.metrics().await.total, 1);
    assert_eq!(api.get(&id).await.job.unwrap().id, id);
    restored.stop_and_check().await;
    deployment.stop_and_check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn migrate_prepares_a_database_and_may_be_repeated() {
    for driver in [Driver::Sqlite, Driver::Postgres] {
        let database = Database::create(driver).await;
        for _ in 0..2 {
            let (ok, printed, error) = run(command(database.url()).arg("migrate")).await;
            assert!(ok && printed.contains("up to date"), "{printed}{error}");
        }
        Server::start(database.url()).await.stop_and_check().await;
        tokio::task::spawn_blocking(move || drop(database)).await.unwrap();
    }
}

#[tokio::test]
async fn logs_are_one_json_object_a_line_when_asked_for_and_hold_no_payload() {
    let database = Database::create(Driver::Sqlite).await;
    let mut server = Server::start_with(database.url(), &["--log-format", "json"]).await;
    let secret = "correct horse battery staple";
    server.api().submit(job(WORKER_ID, &format!("\"{secret}\""))).await;
    server.api().try_submit(job(WORKER_ID, &format!("{{{secret}"))).await.unwrap_err();
    assert!(server.terminate().await.success());
    let log = server.stderr();
    assert!(log.lines().count() >= 3, "{log}");
    for line in log.lines() {
        let object: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(object["level"].is_string() && object["timestamp"].is_string(), "{line}");
    }
    assert!(!log.contains(secret), "{log}");
}
