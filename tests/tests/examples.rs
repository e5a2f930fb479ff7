//! Every example works as it says, against a real server.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "what goes wrong here fails the test")]

use std::{
    env,
    path::{Path, PathBuf},
    time::Duration,
};

use jobqueue_tests::{
    binaries,
    database::{Database, Driver},
    server::Server,
};
use serde_json::Value;
use tokio::process::Command;

/// Output of a program.
struct Printed {
    out: String,
    err: String,
}

/// Runs an example against a new server; panics unless it succeeds within two minutes.
async fn run(command: &mut Command) -> Printed {
    let database = Database::create(Driver::Sqlite).await;
    let server = Server::start(database.url()).await;
    let running = command.env("JOBQUEUE_SERVER", server.endpoint()).kill_on_drop(true).output();
    let output = tokio::time::timeout(Duration::from_mins(2), running).await.expect("the example hangs").unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{:?}: {}\n{}", command, output.status, text(&output.stderr));
    Printed { out: text(&output.stdout), err: text(&output.stderr) }
}

async fn rust(name: &str) -> Vec<String> {
    let output = run(&mut Command::new(binaries::example(name))).await;
    output.out.lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn email() {
    let printed = rust("email").await;
    // The handler runs beside the submits, so the order of these lines is not fixed.
    assert!(printed.contains(&r#"sending "Hello" to ada@example.org, attempt 1"#.to_owned()), "{printed:#?}");
    assert!(printed.contains(&"the second submit gave the same job: true".to_owned()), "{printed:#?}");
    let receipt = r#"done: Some(Receipt { message_id: "<1@ada@example.org>" })"#;
    assert_eq!(printed.last().unwrap(), receipt, "{printed:#?}");
}

#[tokio::test]
async fn errors() {
    let expected = [
        r#"flaky is done after 3 attempt(s), history [failed, failed], result "3", last error "No such file or directory (os error 2)""#,
        r#"early is done after 1 attempt(s), history [snoozed], result "", last error """#,
        r#"broken is failed after 1 attempt(s), history [failed], result "", last error "the account is closed""#,
        r#"panicking is failed after 1 attempt(s), history [failed], result "", last error "panic: index out of bounds: the len is 2 but the index is 3""#,
        "dead letters: 2",
        r#"broken is done after 1 attempt(s), history [failed, retried], result "\"works now\"", last error "the account is closed""#,
        "its timeline: submitted, acquired, attempt_failed, dead_letter, retried, acquired, completed",
    ];
    assert_eq!(rust("errors").await, expected);
}

#[tokio::test]
async fn cancel() {
    let printed = rust("cancel").await;
    assert!(printed[0].starts_with("progress: minute ") && printed[0].ends_with(" of 10000"), "{printed:#?}");
    assert_eq!(printed[1..], ["cancelled: nobody wants to see it", "the handler was told: Some(Cancelled)"]);
}

#[tokio::test]
async fn python() {
    let python = tool("JOBQUEUE_TEST_PYTHON", "a Python that has examples/python/requirements.txt installed");
    greets(&run(Command::new(python).arg(example("python/submit_and_work.py"))).await, "example-python");
}

#[tokio::test]
async fn node() {
    let node = tool("JOBQUEUE_TEST_NODE", "Node 18 or newer");
    let modules = example("node/node_modules");
    assert!(modules.exists(), "{} is missing: run `npm ci` in examples/node, or {XTASK}", modules.display());
    greets(&run(Command::new(node).arg(example("node/submit_and_work.js"))).await, "example-node");
}

fn greets(Printed { out: printed, err }: &Printed, worker_id: &str) {
    let why = format!("why it does not run yet: No worker for \"{worker_id}\" is connected, and none was seen lately.");
    assert!(err.contains(&why), "{err}");
    let job: Value = serde_json::from_str(printed).unwrap_or_else(|error| panic!("{error}: {printed}"));
    let result: Value = serde_json::from_str(job["result_json"].as_str().unwrap()).unwrap();
    assert_eq!(result, serde_json::json!({ "greeting": "Hello, Ada!" }));
    // The words and types are those of the API's contract.
    assert_eq!((&job["status"], &job["worker_id"]), (&"done".into(), &worker_id.into()), "{printed}");
    assert_eq!((&job["attempt_count"], &job["max_retries"]), (&1.into(), &3.into()), "{printed}");
    assert_eq!(job["payload_json"], r#"{"name": "Ada"}"#);
}

const XTASK: &str = "`cargo xtask test examples`, which prepares everything";

fn tool(variable: &str, what: &str) -> PathBuf {
    let tool = env::var_os(variable).unwrap_or_else(|| panic!("{variable} must name {what}; run {XTASK}"));
    PathBuf::from(tool)
}

fn example(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples").join(path)
}
