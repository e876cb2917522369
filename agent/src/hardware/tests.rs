use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};

use proptest::prelude::*;

use super::*;

fn marks(of: &[(Kind, &str)]) -> Marks {
    of.iter()
        .map(|(kind, text)| Mark::new(*kind, text.as_bytes()).unwrap())
        .collect()
}

#[test]
fn one_kind_that_differs_makes_it_other_hardware_and_what_is_missing_does_not() {
    use Kind::{Board, Card, Network, Product};
    #[track_caller]
    fn check(stored: &[(Kind, &str)], present: &[(Kind, &str)], expect: &Verdict) {
        assert_eq!(compare(&marks(stored), &marks(present)), *expect);
    }
    let other = |kinds: &[Kind]| Verdict::Other(kinds.to_vec());
    let (same, unknown) = (Verdict::Same, Verdict::Unknown);
    check(&[], &[], &unknown);
    check(&[], &[(Board, "1")], &unknown);
    check(&[(Board, "1")], &[], &unknown);
    check(&[(Board, "1")], &[(Product, "1")], &unknown);
    check(&[(Board, "1"), (Card, "7")], &[(Board, "1")], &same);
    check(&[(Board, "1")], &[(Board, "1"), (Card, "7")], &same);
    check(&[(Board, "1")], &[(Board, "2")], &other(&[Board]));
    // A card in another board; the image on another card; both.
    check(
        &[(Board, "1"), (Card, "7")],
        &[(Board, "2"), (Card, "7")],
        &other(&[Board]),
    );
    check(
        &[(Board, "1"), (Card, "7")],
        &[(Board, "1"), (Card, "8")],
        &other(&[Card]),
    );
    check(
        &[(Board, "1"), (Card, "7")],
        &[(Board, "2"), (Card, "8")],
        &other(&[Board, Card]),
    );
    // Ports come and go; one that is known is enough.
    check(
        &[(Network, "a"), (Network, "b")],
        &[(Network, "b"), (Network, "c")],
        &same,
    );
    check(
        &[(Network, "a"), (Network, "b")],
        &[(Network, "c")],
        &other(&[Network]),
    );
}

#[test]
fn a_mark_is_of_the_text_and_of_its_kind_and_tells_neither() {
    let mark = |kind, text: &str| Mark::new(kind, text.as_bytes());
    let plain = mark(Kind::Board, "10000000abcdef01").unwrap();
    assert_eq!(mark(Kind::Board, " 10000000ABCDEF01\n\0"), Some(plain));
    assert_ne!(mark(Kind::Board, "10000000abcdef02"), Some(plain));
    assert_ne!(mark(Kind::Chip, "10000000abcdef01"), Some(plain));
    // As `printf '\001%s' 10000000abcdef01 | sha256sum` says: it may never become another.
    assert_eq!(format!("{:016x}", plain.sum), "7e23cd262beb362f");
    for nothing in ["", " \n", "\0\0"] {
        assert_eq!(mark(Kind::Board, nothing), None, "{nothing:?}");
    }
}

#[test]
fn what_is_hidden_today_is_kept_and_ports_are_bounded() {
    use Kind::{Board, Network, Product};
    let stored = marks(&[(Board, "1"), (Network, "a")]);
    let kept = stored.with(&marks(&[(Product, "u"), (Network, "b")]));
    let expect = [(Board, "1"), (Product, "u"), (Network, "a"), (Network, "b")];
    assert_eq!(kept, marks(&expect));
    let names: Vec<_> = (0..NETWORK_MAX).map(|n| n.to_string()).collect();
    let many: Vec<_> = names.iter().map(|name| (Network, name.as_str())).collect();
    assert_eq!(kept.with(&marks(&many)).of(Network).len(), NETWORK_MAX);
}

fn any_marks() -> impl Strategy<Value = Marks> {
    let mark = (0..Kind::ALL.len(), 0_u64..4).prop_map(|(kind, sum)| Mark {
        kind: Kind::ALL[kind],
        sum,
    });
    prop::collection::vec(mark, 0..8).prop_map(Marks::from_iter)
}

proptest! {
    #[test]
    fn hardware_is_never_other_than_what_was_just_seen(stored in any_marks(), present in any_marks()) {
        let kept = match compare(&stored, &present) {
            Verdict::Other(_) => present.clone(),
            Verdict::Same | Verdict::Unknown => stored.with(&present),
        };
        prop_assert!(!matches!(compare(&kept, &present), Verdict::Other(_)));
        prop_assert_eq!(kept.with(&present), kept);
    }

    #[test]
    fn it_makes_no_difference_which_of_two_was_stored(a in any_marks(), b in any_marks()) {
        prop_assert_eq!(compare(&a, &b), compare(&b, &a));
    }
}

/// A machine's sysfs, as far as it is read, in a folder.
struct Sysfs(tempfile::TempDir);

impl Sysfs {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn put(&self, path: &str, text: &str) {
        let path = self.0.path().join("sys").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn link(&self, path: &str, to: &str) {
        let path = self.0.path().join("sys").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::create_dir_all(self.0.path().join("sys").join(to)).unwrap();
        symlink(self.0.path().join("sys").join(to), path).unwrap();
    }

    fn port(&self, at: &str, name: &str, [kind, assigned, address]: [&str; 3]) {
        let folder = format!("devices/{at}/net/{name}");
        self.link(&format!("class/net/{name}"), &folder);
        self.put(&format!("{folder}/device/vendor"), "x\n");
        self.put(&format!("{folder}/type"), &format!("{kind}\n"));
        self.put(
            &format!("{folder}/addr_assign_type"),
            &format!("{assigned}\n"),
        );
        self.put(&format!("{folder}/address"), &format!("{address}\n"));
    }

    /// Where the disk of the state is to be found.
    fn disk(&self) -> String {
        let dev = fs::metadata(self.0.path()).unwrap().dev();
        format!(
            "dev/block/{}:{}",
            rustix::fs::major(dev),
            rustix::fs::minor(dev)
        )
    }

    fn marks(&self) -> Marks {
        read::marks(self.0.path(), &self.0.path().join("not/made/yet"))
    }
}

#[test]
fn a_board_and_a_machine_are_read() {
    let sysfs = Sysfs::new();
    assert_eq!(sysfs.marks(), Marks::default());
    sysfs.put(
        "firmware/devicetree/base/serial-number",
        "10000000abcdef01\0",
    );
    sysfs.put("devices/soc0/serial_number", "0123\n");
    sysfs.put("class/dmi/id/product_uuid", "4C4C4544-0001\n");
    sysfs.put("class/dmi/id/product_serial", "P\n");
    sysfs.put("class/dmi/id/board_serial", " \n");
    let expect = [
        (Kind::Board, "10000000abcdef01"),
        (Kind::Chip, "0123"),
        (Kind::Product, "4c4c4544-0001"),
        (Kind::ProductSerial, "P"),
    ];
    assert_eq!(sysfs.marks(), marks(&expect));
}

#[test]
fn the_medium_is_found_below_partitions_and_volumes() {
    let card = "devices/mmc/block/mmcblk0";
    let nvme = "devices/pci/block/nvme0n1";
    let sysfs = Sysfs::new();
    sysfs.put(&format!("{card}/device/cid"), "1b534d\n");
    sysfs.put(&format!("{card}/mmcblk0p2/partition"), "2\n");
    sysfs.link(&sysfs.disk(), &format!("{card}/mmcblk0p2"));
    assert_eq!(sysfs.marks(), marks(&[(Kind::Card, "1b534d")]));

    let sysfs = Sysfs::new();
    sysfs.put(&format!("{nvme}/device/serial"), "S4EV \n");
    sysfs.put(&format!("{nvme}/nvme0n1p1/partition"), "1\n");
    sysfs.link(&sysfs.disk(), "devices/virtual/block/dm-1");
    sysfs.link(
        "devices/virtual/block/dm-1/slaves/dm-0",
        "devices/virtual/block/dm-0",
    );
    sysfs.link(
        "devices/virtual/block/dm-0/slaves/nvme0n1p1",
        &format!("{nvme}/nvme0n1p1"),
    );
    assert_eq!(sysfs.marks(), marks(&[(Kind::Disk, "S4EV")]));
    // A volume over two disks is none of them.
    sysfs.link("devices/virtual/block/dm-0/slaves/sda1", card);
    assert_eq!(sysfs.marks(), Marks::default());

    let sysfs = Sysfs::new();
    sysfs.put("devices/virtio/block/vda/serial", "vol-7\n");
    sysfs.link(&sysfs.disk(), "devices/virtio/block/vda");
    assert_eq!(sysfs.marks(), marks(&[(Kind::Disk, "vol-7")]));
}

#[test]
fn only_ports_that_are_built_in_count_by_the_address_of_their_maker() {
    let sysfs = Sysfs::new();
    sysfs.port("platform/eth", "eth0", ["1", "0", "DC:A6:32:00:00:01"]);
    // Plugged in; set by somebody; of a hypervisor; nothing; not Ethernet.
    sysfs.port("pci/usb1/1-1", "eth1", ["1", "0", "dc:a6:32:00:00:02"]);
    sysfs.port("pci/a", "eth2", ["1", "3", "dc:a6:32:00:00:03"]);
    sysfs.port("pci/b", "eth3", ["1", "0", "52:54:00:00:00:04"]);
    sysfs.port("pci/c", "eth4", ["1", "0", "00:00:00:00:00:00"]);
    sysfs.port("pci/d", "can0", ["280", "0", "dc:a6:32:00:00:05"]);
    // A bridge has no device.
    sysfs.link("class/net/br0", "devices/virtual/net/br0");
    sysfs.put("devices/virtual/net/br0/type", "1\n");
    sysfs.put("devices/virtual/net/br0/addr_assign_type", "0\n");
    sysfs.put("devices/virtual/net/br0/address", "dc:a6:32:00:00:06\n");
    assert_eq!(
        sysfs.marks(),
        marks(&[(Kind::Network, "dc:a6:32:00:00:01")])
    );
}
