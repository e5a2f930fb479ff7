//! Watchdog: a small shell process that stops the server and removes its folder as soon as this process is gone.
//!
//! The watchdog waits for the end of a pipe that only this process holds, so it works after a return from main, a panic, a `kill
//! -9` and for statics, which Rust never drops.

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::Error;

/// Script of the watchdog; `$1` is the folder. A process counts as this cluster's server only when it works in the data
/// folder, because its id may have been reused since. It repeats, because an initdb or a start may have been under way
/// when this process died.
const SCRIPT: &str = r#"
trap '' INT TERM HUP
read -r _
folder=$1
pidfile=$folder/data/postmaster.pid
ours() {
    if [ -d /proc/self ]; then [ "$(readlink "/proc/$1/cwd")" = "$folder/data" ]; else kill -0 "$1"; fi
}
round=0
while [ -e "$folder" ] && [ $round -lt 50 ]; do
    shm=
    { read -r pid; for _ in 2 3 4 5 6; do read -r _; done; read -r _ shm; } <"$pidfile" && if ours "$pid"; then
        kill -QUIT "$pid"
        n=0
        while ours "$pid" && [ $n -lt 100 ]; do sleep 0.05; n=$((n + 1)); done
        if ours "$pid"; then kill -KILL "$pid"; fi
    fi
    if [ -e "$pidfile" ] && [ -n "$shm" ]; then ipcrm -m "$shm"; fi
    rm -rf "$folder"
    round=$((round + 1))
    [ -e "$folder" ] && sleep 0.1
done
exit 0
"#;

/// The watchdog's process.
#[derive(Debug)]
pub(crate) struct Watchdog {
    shell: Child,
}

impl Watchdog {
    pub(crate) fn start(folder: &Path) -> Result<Self, Error> {
        let shell = Command::new("sh")
            .args(["-c", SCRIPT, "jobqueue-postgres-watchdog"])
            .arg(folder)
            .current_dir("/")
            // A process group of its own, because Ctrl-C would end the terminal's foreground group together with the
            // tests.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(Error::io("cannot start sh"))?;
        Ok(Self { shell })
    }

    /// Lets the watchdog clean up now, and waits until it has.
    pub(crate) fn finish(&mut self) {
        drop(self.shell.stdin.take());
        let _ = self.shell.wait();
    }
}
