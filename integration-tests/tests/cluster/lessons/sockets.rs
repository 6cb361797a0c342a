//! Where the cluster listens.

use super::mock;
use std::collections::BTreeSet;
use std::fs;

/// The inodes of the sockets that a process has open.
fn sockets(pid: u32) -> BTreeSet<String> {
    let open = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let links = open.filter_map(|file| fs::read_link(file.ok()?.path()).ok());
    let inode = |link: std::path::PathBuf| {
        let text = link.to_string_lossy().into_owned();
        Some(text.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned())
    };
    links.filter_map(inode).collect()
}

/// Local addresses, as the kernel writes them, of listening TCP sockets; with their inodes.
fn listening() -> Vec<(String, String)> {
    const LISTEN: &str = "0A";
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(fs::read_to_string);
    let lines = tables.iter().flatten().flat_map(|table| table.lines().skip(1));
    let fields = lines.map(|line| line.split_whitespace().collect::<Vec<_>>());
    let open = fields.filter(|fields| fields[3] == LISTEN);
    open.map(|fields| (fields[1].to_owned(), fields[9].to_owned())).collect()
}

/// Elsewhere an event plane bound all addresses whatever host was named.
#[test]
fn nothing_listens_beyond_loopback_unless_told_to() {
    const LOOPBACK: [&str; 2] = ["0100007F", "00000000000000000000000001000000"];
    let cluster = mock("5ms", &[]);
    let mut found = 0;
    for pid in cluster.pids("estafette") {
        let own = sockets(pid);
        for (address, _) in listening().iter().filter(|(_, inode)| own.contains(inode)) {
            let host = address.split(':').next().unwrap();
            assert!(LOOPBACK.contains(&host), "process {pid} listens on {address}");
            found += 1;
        }
    }
    // HTTP and gRPC of the router, one of the prefill worker, two of the decode worker.
    assert_eq!(found, 5);
}
