//! The edge: what the kernel tells of the hardware, in sysfs. Chosen for that it does not come with an
//! image, and stays what it is over reboots and updates of the kernel. Left out for that reason: the
//! machine-id and host keys (files of the image), disk and partition UUIDs (in the image), names of
//! devices (they depend on the order of probing), and whatever is plugged in by USB (it may be
//! another today).

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::{Kind, Mark, Marks};

/// Files that hold one name each. Those of SMBIOS are for root alone to read.
const FILES: [(Kind, &str); 5] = [
    (Kind::Board, "sys/firmware/devicetree/base/serial-number"),
    (Kind::Chip, "sys/devices/soc0/serial_number"),
    (Kind::Product, "sys/class/dmi/id/product_uuid"),
    (Kind::ProductSerial, "sys/class/dmi/id/product_serial"),
    (Kind::BoardSerial, "sys/class/dmi/id/board_serial"),
];
/// The same of the disk that the state lies on, from its folder in sysfs.
const DISK_FILES: [(Kind, &str); 3] = [
    (Kind::Card, "device/cid"),
    // NVMe.
    (Kind::Disk, "device/serial"),
    // Virtio.
    (Kind::Disk, "serial"),
];
/// Most that is read of a file: a page, which is what sysfs gives.
const BYTES_MAX: u64 = 4096;
/// How deep disks are laid on disks: a file system on a volume of an encrypted partition is two.
const LAYERS_MAX: usize = 6;
/// `addr_assign_type` of an address that is the port's own: neither random, nor given by anybody
/// (`include/uapi/linux/netdevice.h`).
const PERMANENT: &[u8] = b"0";
/// `type` of an Ethernet or wireless port (`include/uapi/linux/if_arp.h`).
const ETHERNET: &[u8] = b"1";

/// All marks that can be read. `root`: `/`; state in `state_dir`.
pub(super) fn marks(root: &Path, state_dir: &Path) -> Marks {
    let single = |(kind, path): (Kind, &str)| Mark::new(kind, &content(&root.join(path))?);
    let disk = disk_of(root, state_dir);
    let of_disk = |(kind, name): (Kind, &str)| {
        let folder = disk.as_ref()?;
        Mark::new(kind, &content(&folder.join(name))?)
    };
    (FILES.into_iter().filter_map(single))
        .chain(DISK_FILES.into_iter().filter_map(of_disk))
        .chain(ports(root))
        .collect()
}

/// What a file holds, without blanks at its end.
fn content(path: &Path) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = fs::File::open(path).ok()?;
    file.take(BYTES_MAX).read_to_end(&mut bytes).ok()?;
    bytes.truncate(bytes.trim_ascii_end().len());
    Some(bytes)
}

/// The whole disk below `state_dir`, as a folder of sysfs; none for a file system that lies on no disk, or on several.
fn disk_of(root: &Path, state_dir: &Path) -> Option<PathBuf> {
    // It is made at the first start.
    let there = state_dir.ancestors().find_map(|at| fs::metadata(at).ok())?;
    let (major, minor) = (
        rustix::fs::major(there.dev()),
        rustix::fs::minor(there.dev()),
    );
    let mut disk = fs::canonicalize(root.join(format!("sys/dev/block/{major}:{minor}"))).ok()?;
    for _ in 0..LAYERS_MAX {
        if disk.join("partition").exists() {
            disk.pop();
        }
        let below = fs::read_dir(disk.join("slaves")).into_iter().flatten();
        let below: Vec<_> = below.flatten().collect();
        match below.as_slice() {
            [] => return Some(disk),
            [one] => disk = fs::canonicalize(one.path()).ok()?,
            _ => return None,
        }
    }
    None
}

/// The addresses of network ports that are built in.
fn ports(root: &Path) -> BTreeSet<Mark> {
    let all = fs::read_dir(root.join("sys/class/net")).into_iter();
    all.flatten()
        .flatten()
        .filter_map(|port| port_mark(&port.path()))
        .collect()
}

fn port_mark(link: &Path) -> Option<Mark> {
    let port = fs::canonicalize(link).ok()?;
    let is = |name: &str, wanted: &[u8]| content(&port.join(name)).is_some_and(|is| is == wanted);
    // A bridge or a tunnel has no device.
    let is_built_in = port.join("device").exists() && !port.iter().any(is_usb_bus);
    if !is_built_in || !is("type", ETHERNET) || !is("addr_assign_type", PERMANENT) {
        return None;
    }
    let address = content(&port.join("address"))?;
    is_of_a_maker(&address).then(|| Mark::new(Kind::Network, &address))?
}

fn is_usb_bus(part: &OsStr) -> bool {
    let number = part.as_encoded_bytes().strip_prefix(b"usb");
    number.is_some_and(|number| !number.is_empty() && number.iter().all(u8::is_ascii_digit))
}

/// Whether a maker gave it out, for one port: not one that software made up (the second bit of the first byte,
/// as hypervisors do), and not nothing.
fn is_of_a_maker(address: &[u8]) -> bool {
    let first = address.get(..2).and_then(|hex| str::from_utf8(hex).ok());
    let first = first.and_then(|hex| u8::from_str_radix(hex, 16).ok());
    let is_nothing = address.iter().all(|byte| matches!(byte, b'0' | b':'));
    !is_nothing && first.is_some_and(|first| first & 0b11 == 0)
}
