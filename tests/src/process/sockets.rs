//! The connections that a running binary holds, as the kernel knows them.

use super::Process;
use std::collections::BTreeSet;
use std::fs;

impl Process {
    /// Its established TCP connections to one of these ports, each by a number (the socket's inode)
    /// that no other has while this one is open.
    pub fn sockets(&self, ports: &[u16]) -> BTreeSet<u64> {
        let pid = self.pid();
        let folder = fs::read_dir(format!("/proc/{pid}/fd"))
            .into_iter()
            .flatten();
        let links = folder.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
        let ours: BTreeSet<u64> = links
            .filter_map(|link| {
                let inode = link.to_str()?.strip_prefix("socket:[")?;
                inode.strip_suffix(']')?.parse().ok()
            })
            .collect();
        let table = fs::read_to_string(format!("/proc/{pid}/net/tcp")).unwrap_or_default();
        let rows = table.lines().skip(1);
        rows.filter_map(|row| established(row, ports))
            .filter(|inode| ours.contains(inode))
            .collect()
    }
}

/// The inode of an established connection to one of these ports. `man 5 proc_pid_net`.
fn established(row: &str, ports: &[u16]) -> Option<u64> {
    let fields: Vec<&str> = row.split_whitespace().collect();
    let [_, _, remote, "01", ..] = fields.as_slice() else {
        return None;
    };
    let (_, port) = remote.rsplit_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let inode = fields.get(9)?.parse().ok()?;
    ports.contains(&port).then_some(inode)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_of_the_kernels_table_is_read() {
        let row = "  7: 0100007F:A1B2 0100007F:2382 01 00000000:00000000 02:00000A2B 00000000  1000        0 123456 2 0000000000000000 20 4 30 10 -1";
        assert_eq!(established(row, &[9090]), Some(123_456));
        assert_eq!(established(row, &[9091]), None);
        assert_eq!(established(&row.replace(" 01 ", " 06 "), &[9090]), None);
        assert_eq!(established("", &[9090]), None);
    }
}
