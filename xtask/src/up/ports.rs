//! Check that an address can be listened on, with the name of the program that has it when not.

use std::fs;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};

use anyhow::{Context as _, Result, bail};

/// Process that listens on a port.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Holder {
    pid: u32,
    program: String,
}

/// Returns `address` when it is free, with port 0 replaced by a free one.
///
/// # Errors
/// When the address is taken; the message names the process, and says how to choose another address with `option`.
pub(crate) fn choose(address: SocketAddr, option: &str) -> Result<SocketAddr> {
    match TcpListener::bind(address) {
        Ok(listener) => listener.local_addr().with_context(|| format!("cannot listen on {address}")),
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            bail!(in_use(address, holder(address.port()).as_ref(), option, free_after(address)))
        }
        Err(error) => Err(error).with_context(|| format!("cannot listen on {address} ({option})")),
    }
}

fn in_use(address: SocketAddr, holder: Option<&Holder>, option: &str, other: Option<SocketAddr>) -> String {
    let by = holder.map(|holder| format!(" by {} (pid {})", holder.program, holder.pid)).unwrap_or_default();
    let other = other.map_or_else(|| format!("{}:0", address.ip()), |other| other.to_string());
    format!("port {} is in use{by}; choose another with {option} {other}", address.port())
}

/// Free port on the same address, some way up: 50061 for 50051.
fn free_after(address: SocketAddr) -> Option<SocketAddr> {
    (1..=20u16)
        .filter_map(|step| Some(SocketAddr::new(address.ip(), address.port().checked_add(step * 10)?)))
        .find(|other| TcpListener::bind(other).is_ok())
}

/// Process that listens on `port`, found in /proc by the port's socket and the process that has that socket open.
/// `None` where there is no /proc, or where the process is another user's.
fn holder(port: u16) -> Option<Holder> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|table| fs::read_to_string(table).unwrap_or_default());
    let sockets: Vec<String> =
        tables.iter().flat_map(|table| listeners(table, port)).map(|inode| format!("socket:[{inode}]")).collect();
    let processes = fs::read_dir("/proc").ok()?.flatten();
    processes.filter_map(|process| process.file_name().to_str()?.parse::<u32>().ok()).find_map(|pid| {
        let open = fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
        let has_it = open.flatten().any(|file| {
            fs::read_link(file.path())
                .is_ok_and(|target| sockets.iter().any(|socket| target.as_os_str() == socket.as_str()))
        });
        let program = has_it.then(|| fs::read_to_string(format!("/proc/{pid}/comm")).ok())??;
        Some(Holder { pid, program: full_name(pid, program.trim()) })
    })
}

/// Full name of a program, from its file, because the kernel cuts names after 15 bytes.
fn full_name(pid: u32, short: &str) -> String {
    let file = fs::read_link(format!("/proc/{pid}/exe")).ok();
    let name = file.as_deref().and_then(|path| path.file_name()).map(|name| name.to_string_lossy().into_owned());
    name.filter(|name| name.starts_with(short)).unwrap_or_else(|| short.to_owned())
}

/// Inodes of the sockets that listen on `port`, from a table like /proc/net/tcp.
fn listeners(table: &str, port: u16) -> Vec<u64> {
    const LISTEN: &str = "0A";
    let end = format!(":{port:04X}");
    let rows = table.lines().skip(1).map(|row| row.split_whitespace().collect::<Vec<_>>());
    rows.filter(|row| row.len() > 9 && row[1].ends_with(&end) && row[3] == LISTEN)
        .filter_map(|row| row[9].parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_names_the_port_who_has_it_and_the_way_out() {
        let address: SocketAddr = "127.0.0.1:50051".parse().unwrap();
        let other = Some("127.0.0.1:50061".parse().unwrap());
        let holder = Holder { pid: 4711, program: "jobqueue-server".into() };
        assert_eq!(
            in_use(address, Some(&holder), "--grpc-addr", other),
            "port 50051 is in use by jobqueue-server (pid 4711); choose another with --grpc-addr 127.0.0.1:50061"
        );
        assert_eq!(
            in_use(address, None, "--grpc-addr", None),
            "port 50051 is in use; choose another with --grpc-addr 127.0.0.1:0"
        );
    }

    #[test]
    fn only_listening_sockets_of_the_very_port_count() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
             0: 0100007F:C383 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 111 1 0 100\n\
             1: 0100007F:C383 0100007F:9999 01 00000000:00000000 00:00000000 00000000     0        0 222 1 0 100\n\
             2: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 333 1 0 100\n";
        assert_eq!(listeners(table, 50051), [111]);
        assert_eq!(listeners(table, 8080), [333]);
        assert_eq!(listeners(table, 80), [0u64; 0]);
    }

    #[test]
    fn a_port_that_we_hold_ourselves_is_refused_with_our_name() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let _held = TcpListener::bind(taken).unwrap();
        let error = choose(taken, "--http-addr").unwrap_err().to_string();
        assert!(error.starts_with(&format!("port {} is in use", taken.port())), "{error}");
        assert!(error.contains("choose another with --http-addr 127.0.0.1:"), "{error}");
        if cfg!(target_os = "linux") {
            assert!(error.contains(&format!("(pid {})", std::process::id())), "{error}");
        }
        assert_ne!(choose("127.0.0.1:0".parse().unwrap(), "--http-addr").unwrap().port(), 0);
    }
}
