//! A server process on a database of its own, gone when it is dropped.

use std::{env, path::PathBuf, process::Stdio};

use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
    sync::OnceCell,
};

pub(crate) struct Server {
    /// `http://host:port` of gRPC.
    pub(crate) endpoint: String,
    _process: Child,
    _folder: TempDir,
}

impl Server {
    pub(crate) async fn start() -> Self {
        let folder = tempfile::Builder::new().prefix("jobqueue-test-").tempdir().unwrap();
        let mut process = Command::new(binary().await)
            .args(["--grpc-addr", "127.0.0.1:0", "--http-addr", "127.0.0.1:0", "--log", "warn", "--database-url"])
            .arg(format!("sqlite://{}", folder.path().join("jobqueue.db").display()))
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let line = lines.next_line().await.unwrap().expect("the server ended before it listened");
        let announced: serde_json::Value = serde_json::from_str(&line).unwrap();
        let address = announced["listening"]["grpc_addr"].as_str().unwrap();
        Self { endpoint: format!("http://{address}"), _process: process, _folder: folder }
    }
}

/// The folder of this build: target/debug.
pub(crate) fn build_folder() -> PathBuf {
    let test = env::current_exe().unwrap();
    test.ancestors().nth(2).unwrap().to_owned()
}

/// Builds what the tests start. Agrees with `cargo test --workspace` on features, so that little is compiled twice.
pub(crate) async fn cargo_build(what: &str) {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["build", "--quiet", "--workspace", what])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .await
        .unwrap();
    assert!(output.status.success(), "cargo build {what} failed:\n{}", String::from_utf8_lossy(&output.stderr));
}

/// The server that xtask has built, or one built now.
async fn binary() -> PathBuf {
    static BUILT: OnceCell<PathBuf> = OnceCell::const_new();
    let build = async || {
        if let Some(given) = env::var_os("JOBQUEUE_SERVER_BIN") {
            return given.into();
        }
        cargo_build("--bins").await;
        build_folder().join("jobqueue-server")
    };
    BUILT.get_or_init(build).await.clone()
}
