//! Debian packages: installed by apt-get if this runs as root on Debian; elsewhere, one line names them.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use crate::process;
use crate::progress::{Step, Task};
use crate::workspace::Workspace;

/// Debian package that is missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Package {
    pub(crate) name: &'static str,
    pub(crate) why: &'static str,
}

/// Task that installs the packages; `None` when there are none.
pub(crate) fn task(workspace: &Workspace, packages: Vec<Package>) -> Result<Option<Task<'_>>> {
    if packages.is_empty() {
        return Ok(None);
    }
    require_apt(&packages)?;
    let names: Vec<&str> = packages.iter().map(|package| package.name).collect();
    let what = format!("Debian packages {}", names.join(", "));
    let why = packages.iter().map(|package| package.why).collect::<Vec<_>>().join("; ");
    Ok(Some(Task::new(what, why, move |step| {
        let names: Vec<&str> = packages.iter().map(|package| package.name).collect();
        install(workspace, &names, step)
    })))
}

/// Installs packages. The package lists are fetched when there are none, and again when they turn out to be too old.
pub(crate) fn install(workspace: &Workspace, names: &[&str], step: &Step) -> Result<()> {
    let log = workspace.log("apt");
    let update = || process::logged(apt_get().arg("update"), &log, step);
    let has_lists = std::fs::read_dir("/var/lib/apt/lists").is_ok_and(|entries| {
        entries.flatten().any(|entry| {
            entry.file_name().to_string_lossy().ends_with("_Packages")
                || entry.file_name().to_string_lossy().contains("_Packages.")
        })
    });
    if !has_lists {
        update()?;
    }
    let install =
        || process::logged(apt_get().args(["install", "--yes", "--no-install-recommends"]).args(names), &log, step);
    if install().is_ok() {
        return Ok(());
    }
    update()?;
    install()
}

/// Fails with one line that says what to install by hand, unless apt-get can install it here.
pub(crate) fn require_apt(packages: &[Package]) -> Result<()> {
    let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let root = rustix::process::geteuid().is_root();
    match obstacle(is_debian(&release) && Path::new("/usr/bin/apt-get").exists(), root) {
        None => Ok(()),
        Some(obstacle) => bail!(by_hand(packages, obstacle)),
    }
}

fn apt_get() -> Command {
    let mut command = Command::new("apt-get");
    command.args(["--quiet", "--option", "DPkg::Lock::Timeout=300"]);
    command.env("DEBIAN_FRONTEND", "noninteractive").env("LC_ALL", "C.UTF-8");
    command
}

fn is_debian(os_release: &str) -> bool {
    os_release.lines().any(|line| line.trim() == "ID=debian")
}

fn obstacle(debian: bool, root: bool) -> Option<&'static str> {
    match (debian, root) {
        (true, true) => None,
        (true, false) => Some("only root can install them"),
        (false, _) => Some("this is not Debian, where they have these names"),
    }
}

fn by_hand(packages: &[Package], obstacle: &str) -> String {
    let names: Vec<&str> = packages.iter().map(|package| package.name).collect();
    let mut whys: Vec<&str> = packages.iter().map(|package| package.why).collect();
    whys.dedup();
    format!(
        "please install {} by hand ({obstacle}), then run this again; needed because {}",
        names.join(" "),
        whys.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_installed_is_one_line_with_the_packages() {
        let packages =
            [Package { name: "postgresql", why: "tests use it" }, Package { name: "chromium", why: "so do pages" }];
        let line = by_hand(&packages, obstacle(true, false).unwrap());
        assert_eq!(
            line,
            "please install postgresql chromium by hand (only root can install them), then run this again; \
             needed because tests use it, so do pages"
        );
        assert_eq!(obstacle(true, true), None);
        assert!(obstacle(false, true).is_some());
    }

    #[test]
    fn only_debian_itself_counts_as_debian() {
        assert!(is_debian("PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nID=debian\n"));
        assert!(!is_debian("ID=ubuntu\nID_LIKE=debian\n"));
    }
}
