//! Readers on a tree of files as the kernel has them.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::time::Duration;

use proptest::prelude::*;
use tempfile::TempDir;

use super::buffer::{Buffers, Clocks, Layout, arrange};
use super::*;
use crate::clock::{Moment, Monotonic};

struct Tree(TempDir);

impl Tree {
    fn new(files: &[(&str, &str)]) -> Self {
        let tree = Self(tempfile::tempdir().unwrap());
        for (name, text) in files {
            tree.write(name, text.as_bytes());
        }
        tree
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        fs::write(self.path(name), bytes).unwrap();
    }
}

fn reader(kind: Kind) -> Reader {
    Reader {
        kind,
        command: None,
        pointer: "/env/temp".into(),
        column: "temp".into(),
        separator: b';',
        dev: PathBuf::from("/dev"),
    }
}

/// Value, label and unit of a sensor, as a text.
fn shown(tree: &Tree, kind: Kind, name: &str) -> String {
    let (reader, path) = (reader(kind), tree.path(name));
    let about = reader.about(&path);
    let value = match reader.read(&path) {
        Ok(value) => format!("{value:.4}"),
        Err(error) => format!("{:?}", error.quality()),
    };
    format!(
        "{value} {} ({})",
        about.unit.unwrap_or("-"),
        about.label.unwrap_or_default()
    )
}

const SYSFS: &[(&str, &str)] = &[
    ("thermal/thermal_zone0/temp", "48312\n"),
    ("thermal/thermal_zone0/type", "cpu-thermal\n"),
    ("hwmon/hwmon0/name", "coretemp\n"),
    ("hwmon/hwmon0/temp2_input", "51000\n"),
    ("hwmon/hwmon0/temp2_label", "Core 0\n"),
    ("hwmon/hwmon1/name", "rpi_volt\n"),
    ("hwmon/hwmon1/in0_input", "5094\n"),
    ("hwmon/hwmon1/curr1_input", "-120\n"),
    ("hwmon/hwmon1/power1_input", "2500000\n"),
    ("hwmon/hwmon1/fan1_input", "1200\n"),
    ("hwmon/hwmon1/humidity1_input", "45500\n"),
    ("hwmon/hwmon1/intrusion0_input", "1\n"),
    ("power/battery/capacity", "87\n"),
    ("power/battery/model_name", "LP-503562 \n"),
    ("power/battery/voltage_now", "4112000\n"),
    ("power/battery/current_now", "-250000\n"),
    ("power/battery/temp", "298\n"),
    ("power/battery/status", "Discharging\n"),
];

#[test]
fn thermal_zones_hwmon_and_power_supplies() {
    let tree = Tree::new(SYSFS);
    for (kind, name, expected) in [
        (
            Kind::Thermal,
            "thermal/thermal_zone0/temp",
            "48.3120 C (cpu-thermal)",
        ),
        (Kind::Thermal, "thermal/thermal_zone1/temp", "Missing C ()"),
        (
            Kind::Hwmon,
            "hwmon/hwmon0/temp2_input",
            "51.0000 C (coretemp Core 0)",
        ),
        (Kind::Hwmon, "hwmon/hwmon1/in0_input", "5.0940 V (rpi_volt)"),
        (
            Kind::Hwmon,
            "hwmon/hwmon1/curr1_input",
            "-0.1200 A (rpi_volt)",
        ),
        (
            Kind::Hwmon,
            "hwmon/hwmon1/power1_input",
            "2.5000 W (rpi_volt)",
        ),
        (
            Kind::Hwmon,
            "hwmon/hwmon1/fan1_input",
            "1200.0000 rpm (rpi_volt)",
        ),
        (
            Kind::Hwmon,
            "hwmon/hwmon1/humidity1_input",
            "45.5000 % (rpi_volt)",
        ),
        (
            Kind::Hwmon,
            "hwmon/hwmon1/intrusion0_input",
            "1.0000 - (rpi_volt)",
        ),
        (
            Kind::PowerSupply,
            "power/battery/capacity",
            "87.0000 % (LP-503562)",
        ),
        (
            Kind::PowerSupply,
            "power/battery/voltage_now",
            "4.1120 V (LP-503562)",
        ),
        (
            Kind::PowerSupply,
            "power/battery/current_now",
            "-0.2500 A (LP-503562)",
        ),
        (
            Kind::PowerSupply,
            "power/battery/temp",
            "29.8000 C (LP-503562)",
        ),
        (
            Kind::PowerSupply,
            "power/battery/status",
            "Missing - (LP-503562)",
        ),
    ] {
        assert_eq!(shown(&tree, kind, name), expected, "{name}");
    }
}

#[test]
fn iio_channels_with_scale_and_offset() {
    let tree = Tree::new(&[
        ("iio:device0/name", "bme280\n"),
        ("iio:device0/in_temp_input", "21540\n"),
        ("iio:device0/in_humidityrelative_input", "45215\n"),
        ("iio:device0/in_pressure_input", "99.812\n"),
        ("iio:device1/name", "ads1015\n"),
        ("iio:device1/in_voltage0_raw", "1024\n"),
        ("iio:device1/in_voltage0_scale", "3.000000000\n"),
        ("iio:device1/in_voltage_scale", "99\n"),
        ("iio:device1/in_voltage1_raw", "10\n"),
        ("iio:device1/in_voltage0-voltage1_raw", "-5\n"),
        ("iio:device3/in_voltage_scale", "99\n"),
        ("iio:device3/in_voltage-voltage_scale", "2.0\n"),
        ("iio:device3/in_voltage-voltage_offset", "1\n"),
        ("iio:device3/in_voltage0-voltage1_raw", "-5\n"),
        ("iio:device3/in_voltage2-voltage3_raw", "-5\n"),
        ("iio:device3/in_voltage2-voltage3_scale", "3.0\n"),
        ("iio:device2/in_temp_raw", "100\n"),
        ("iio:device2/in_temp_offset", "-20\n"),
        ("iio:device2/in_temp_scale", "12.5\n"),
        ("iio:device2/in_accel_x_raw", "-256\n"),
        ("iio:device2/in_accel_scale", "0.038307\n"),
        ("iio:device2/in_voltage3_raw", "1\n"),
        ("iio:device2/in_voltage3_scale", "wide\n"),
    ]);
    for (name, expected) in [
        ("iio:device0/in_temp_input", "21.5400 C (bme280 temp)"),
        (
            "iio:device0/in_humidityrelative_input",
            "45.2150 % (bme280 humidityrelative)",
        ),
        (
            "iio:device0/in_pressure_input",
            "99.8120 kPa (bme280 pressure)",
        ),
        ("iio:device1/in_voltage0_raw", "3.0720 V (ads1015 voltage0)"),
        ("iio:device1/in_voltage1_raw", "0.9900 V (ads1015 voltage1)"),
        (
            "iio:device1/in_voltage0-voltage1_raw",
            "-0.4950 V (ads1015 voltage0-voltage1)",
        ),
        (
            "iio:device3/in_voltage0-voltage1_raw",
            "-0.0080 V (voltage0-voltage1)",
        ),
        (
            "iio:device3/in_voltage2-voltage3_raw",
            "-0.0120 V (voltage2-voltage3)",
        ),
        ("iio:device2/in_temp_raw", "1.0000 C (temp)"),
        ("iio:device2/in_accel_x_raw", "-9.8066 m/s2 (accel_x)"),
        ("iio:device2/in_voltage3_raw", "Missing V (voltage3)"),
    ] {
        assert_eq!(shown(&tree, Kind::Iio, name), expected, "{name}");
    }
}

#[test]
fn elements_of_a_scan_lie_where_their_size_allows() {
    let layout = |text| Layout::parse(text).unwrap();
    let elements = [
        layout("le:u12/16>>4"),
        layout("be:s24/32>>8"),
        layout("le:s64/64>>0"),
    ];
    assert_eq!(arrange(&elements), (vec![0, 4, 8], 16));
    assert_eq!(arrange(&elements[..1]), (vec![0], 2));
    for bad in [
        "",
        "le",
        "le:u12",
        "le:u12/16",
        "me:u12/16>>4",
        "le:x12/16>>4",
        "le:u12/24>>0",
        "le:u0/16>>0",
        "le:u12/16>>5",
        "le:u12/16X4>>0",
        "le:u99999999999/16>>0",
        "le:ü12/16>>4",
        "le:u1/64>>4294967295",
    ] {
        assert_eq!(Layout::parse(bad), None, "{bad}");
    }
}

/// So many seconds after the boot, at which a kernel's clock shows `ns`; buffers are read each ten seconds.
fn clocks(second: u64, ns: i64) -> Clocks<'static> {
    Clocks {
        now: Moment {
            at: Monotonic(second * 1000),
            stamp_ms: 1_800_000_000_000 + second * 1000,
        },
        kernel_ns: Box::leak(Box::new(move |_| ns)),
        interval: Duration::from_secs(10),
    }
}

fn values(buffers: &mut Buffers, path: &Path) -> Vec<f64> {
    let taken = buffers.take(path).unwrap_or_default();
    taken.into_iter().map(|(value, _)| value).collect()
}

/// The files of a chip with two channels of acceleration, and the time of each scan.
const SCANS: &[(&str, &str)] = &[
    ("iio:device0/name", "lis3dh_accel\n"),
    ("iio:device0/current_timestamp_clock", "realtime\n"),
    ("iio:device0/in_accel_scale", "0.5\n"),
    ("iio:device0/scan_elements/in_accel_x_en", "1\n"),
    ("iio:device0/scan_elements/in_accel_x_index", "0\n"),
    (
        "iio:device0/scan_elements/in_accel_x_type",
        "le:s12/16>>4\n",
    ),
    ("iio:device0/scan_elements/in_timestamp_en", "1\n"),
    ("iio:device0/scan_elements/in_timestamp_index", "3\n"),
    (
        "iio:device0/scan_elements/in_timestamp_type",
        "le:s64/64>>0\n",
    ),
    ("dev/iio:device0", ""),
];

/// A scan as the kernel lays it out: the number, what fills up to the next multiple of eight, the stamp.
fn scan(number: i16, stamp_ns: i64) -> Vec<u8> {
    let mut bytes = (number << 4).to_le_bytes().to_vec();
    bytes.resize(8, 0xee);
    bytes.extend(stamp_ns.to_le_bytes());
    bytes
}

/// Value, and seconds since the boot, of what a buffer of [`SCANS`] gives.
fn filled(
    buffers: &mut Buffers,
    tree: &Tree,
    scans: &[Vec<u8>],
    clocks: &Clocks<'_>,
) -> Vec<(f64, f64)> {
    let path = tree.path("iio:device0/scan_elements/in_accel_x_en");
    let file = OpenOptions::new()
        .append(true)
        .open(tree.path("dev/iio:device0"));
    file.unwrap().write_all(&scans.concat()).unwrap();
    buffers.fill(&tree.path("dev"), &[&path], clocks);
    let taken = buffers.take(&path).unwrap_or_default();
    let shown = taken.into_iter().map(|(value, moment)| {
        let age = clocks.now.at.since(moment.at);
        assert_eq!(clocks.now.before(age), moment, "both clocks say the same");
        (value, moment.at.0 as f64 / 1000.0)
    });
    shown.collect()
}

#[test]
fn a_scan_was_taken_when_its_time_stamp_says() {
    const SECOND: i64 = 1_000_000_000;
    for (name, known) in [
        ("realtime\n", true),
        ("monotonic\n", true),
        ("monotonic_raw\n", true),
        ("boottime\n", true),
        ("tai\n", false),
    ] {
        let tree = Tree::new(SCANS);
        tree.write("iio:device0/current_timestamp_clock", name.as_bytes());
        let mut buffers = Buffers::default();
        let now = 1_795_000_000 * SECOND;
        let scans = [scan(2, now - 9 * SECOND), scan(-4, now - 250_000_000)];
        let first = filled(&mut buffers, &tree, &scans, &clocks(100, now));
        // Without a clock that is known they are spread over the interval.
        let expected = match known {
            true => [(1.0, 91.0), (-2.0, 99.75)],
            false => [(1.0, 95.0), (-2.0, 100.0)],
        };
        assert_eq!(first, expected, "{name}");
        // The clock was set an hour forward, and the stamps are of before: they lie where they can.
        let scans = [scan(2, now + SECOND), scan(4, now + 3601 * SECOND)];
        let then = now + 3608 * SECOND;
        let second = filled(&mut buffers, &tree, &scans, &clocks(108, then));
        assert_eq!(second, [(1.0, 104.0), (2.0, 108.0)], "{name}");
    }
}

#[test]
fn without_a_time_stamp_scans_lie_evenly_since_the_last_reading() {
    let tree = Tree::new(SCANS);
    tree.write("iio:device0/scan_elements/in_timestamp_en", b"0\n");
    let mut buffers = Buffers::default();
    let scans: Vec<_> = [2_i16, 4]
        .map(|number| (number << 4).to_le_bytes().to_vec())
        .into();
    for (second, expected) in [
        (100, vec![(1.0, 95.0), (2.0, 100.0)]),
        // One was late.
        (120, vec![(1.0, 110.0), (2.0, 120.0)]),
    ] {
        assert_eq!(
            filled(&mut buffers, &tree, &scans, &clocks(second, 0)),
            expected
        );
    }
    assert_eq!(filled(&mut buffers, &tree, &[], &clocks(130, 0)), []);
    assert_eq!(
        filled(&mut buffers, &tree, &scans, &clocks(140, 0)),
        [(1.0, 135.0), (2.0, 140.0)],
        "nothing came before the last reading"
    );
}

#[test]
fn a_buffer_gives_what_was_collected() {
    let tree = Tree::new(&[
        ("iio:device0/name", "mcp3008\n"),
        ("iio:device0/in_voltage_scale", "2.0\n"),
        ("iio:device0/scan_elements/in_voltage0_en", "1\n"),
        ("iio:device0/scan_elements/in_voltage0_index", "0\n"),
        (
            "iio:device0/scan_elements/in_voltage_type",
            "be:u10/16>>2\n",
        ),
        ("iio:device0/scan_elements/in_voltage1_en", "0\n"),
        ("iio:device0/scan_elements/in_voltage1_index", "1\n"),
        ("iio:device0/scan_elements/in_temp_en", "1\n"),
        ("iio:device0/scan_elements/in_temp_index", "2\n"),
        ("iio:device0/scan_elements/in_temp_type", "le:s16/16>>0\n"),
        ("dev/iio:device0", ""),
    ]);
    let voltage = tree.path("iio:device0/scan_elements/in_voltage0_en");
    let temp = tree.path("iio:device0/scan_elements/in_temp_en");
    let reader = reader(Kind::IioBuffer);
    assert!(reader.is_enabled(&voltage));
    assert!(!reader.is_enabled(&tree.path("iio:device0/scan_elements/in_voltage1_en")));
    assert_eq!(
        reader.about(&voltage).label.as_deref(),
        Some("mcp3008 voltage0")
    );
    let mut buffers = Buffers::default();
    let clocks = clocks(100, 0);
    let mut fill = |bytes: &[u8]| {
        let mut file = OpenOptions::new()
            .append(true)
            .open(tree.path("dev/iio:device0"))
            .unwrap();
        file.write_all(bytes).unwrap();
        buffers.fill(&tree.path("dev"), &[&voltage, &temp], &clocks);
        (values(&mut buffers, &voltage), values(&mut buffers, &temp))
    };
    // 512 and 1 of ten bits, shifted by two; -1000 and 250; and half of a third scan.
    let (volts, temps) = fill(&[0x08, 0x00, 0x18, 0xfc, 0x00, 0x04, 0xfa, 0x00, 0x08]);
    assert_eq!((volts, temps), (vec![1.024, 0.002], vec![-1.0, 0.25]));
    let (volts, temps) = fill(&[0x00, 0x00, 0x00]);
    assert_eq!((volts, temps), (vec![1.024], vec![0.0]));
    assert_eq!(fill(&[]), (vec![], vec![]));
    assert!(
        buffers.take(&voltage).is_err(),
        "what is not collected is missing, not old"
    );
}

#[test]
fn one_wire_check_sums_are_checked() {
    let good = "72 01 4b 46 7f ff 0e 10 57 : crc=57 YES\n72 01 4b 46 7f ff 0e 10 57 t=23125\n";
    assert_eq!(one_wire::parse(good.as_bytes()).unwrap(), 23.125);
    let minus = "5e ff 4b 46 7f ff 02 10 d6 : crc=d6 YES\n5e ff 4b 46 7f ff 02 10 d6 t=-10125\n";
    let quality = |text: &str| one_wire::parse(text.as_bytes()).map_err(|error| error.quality());
    // The kernel's word, or ours where the bytes are not what it checked.
    assert_eq!(quality(&good.replace("YES", "NO")), Err(Quality::Crc));
    assert_eq!(quality(&good.replacen("72", "73", 1)), Err(Quality::Crc));
    assert_eq!(quality(&minus.replacen("5e", "5f", 1)), Err(Quality::Crc));
    let dead = "00 00 00 00 00 00 00 00 00 : crc=00 YES\n00 00 00 00 00 00 00 00 00 t=0\n";
    assert_eq!(quality(dead), Err(Quality::Crc));
    for bad in [
        "",
        "\n",
        "zz : crc=57 YES\n t=1",
        "72 : crc",
        &good.replace("t=23125", ""),
    ] {
        assert_eq!(quality(bad), Err(Quality::Missing), "{bad:?}");
    }
}

#[test]
fn numbers_in_documents() {
    for (text, number) in [
        (r#"{"env":{"temp":21.5}}"#, Some(21.5)),
        (r#"{"env":{"temp":" 21.5 "}}"#, Some(21.5)),
        (r#"{"env":{"temp":true}}"#, Some(1.0)),
        (r#"{"env":{"temp":null}}"#, None),
        (r#"{"env":21.5}"#, None),
        ("21.5", None),
        ("", None),
    ] {
        assert_eq!(
            document::json(text.as_bytes(), "/env/temp").ok(),
            number,
            "{text}"
        );
    }
    let csv =
        |text: &str, column| document::csv(text.as_bytes(), text.as_bytes(), column, b';').ok();
    for (text, column, number) in [
        ("time;temp\n1;20.5\n2;21.5\n", "temp", Some(21.5)),
        ("time;temp\n1;20.5\n2;2", "temp", Some(20.5)),
        (
            "\"time\";\"temp\"\n\"a;b\";\"21.5\"\n\n",
            "temp",
            Some(21.5),
        ),
        ("1;20.5\n2;21.5", "2", Some(20.5)),
        ("1;20.5", "2", Some(20.5)),
        ("1;20.5", "0", None),
        ("1;20.5", "3", None),
        ("time;hum\n1;2\n", "temp", None),
        ("time;temp\n1;x\n", "temp", None),
        ("", "1", None),
    ] {
        assert_eq!(csv(text, column), number, "{text:?} {column}");
    }
}

#[test]
fn of_a_long_file_both_ends_are_read() {
    let rows: String = (0..20_000).map(|n| format!("{n};{}\n", n * 2)).collect();
    let tree = Tree::new(&[("log.csv", &format!("n;temp\n{rows}"))]);
    assert!(rows.len() as u64 > 2 * DOCUMENT_BYTES_MAX);
    assert_eq!(
        reader(Kind::Csv).read(&tree.path("log.csv")).unwrap(),
        39_998.0
    );
    assert_eq!(shown(&tree, Kind::Json, "log.csv"), "Missing - ()");
}

#[test]
fn the_first_word_is_the_number() {
    for (text, number) in [
        ("48312\n", Some(48312.0)),
        ("0.52 0.58 0.59 1/977 22\n", Some(0.52)),
        ("  -3.5e2\t", Some(-350.0)),
        ("+7\0\0", Some(7.0)),
        ("", None),
        (" \n", None),
        ("N/A", None),
        ("12C", None),
        ("nan", None),
        ("inf", None),
        ("1e999", None),
    ] {
        assert_eq!(number::parse(text.as_bytes()).ok(), number, "{text:?}");
    }
}

#[test]
fn what_is_no_number_is_shown_in_part() {
    let tree = Tree::new(&[("value", &"x".repeat(1 << 20))]);
    let error = reader(Kind::Number)
        .read(&tree.path("value"))
        .unwrap_err()
        .to_string();
    assert!(error.len() < 100 && error.contains("xxx"), "{error}");
    let none = reader(Kind::Number).read(&tree.path("none"));
    assert!(matches!(none, Err(ReadError::Unreadable(_))));
}

proptest! {
    #[test]
    fn any_bytes_are_a_number_or_none(bytes in prop::collection::vec(any::<u8>(), 0..80), text in ".{0,40}") {
        for bytes in [&bytes[..], text.as_bytes()] {
            prop_assert!(number::parse(bytes).ok().is_none_or(f64::is_finite));
            prop_assert!(one_wire::parse(bytes).ok().is_none_or(f64::is_finite));
            prop_assert!(document::json(bytes, "/a").ok().is_none_or(f64::is_finite));
            prop_assert!(document::csv(bytes, bytes, "1", b',').ok().is_none_or(f64::is_finite));
            Layout::parse(&String::from_utf8_lossy(bytes));
        }
    }
}

#[test]
fn what_is_no_file_is_told_as_such_whatever_is_looked_for_in_it() {
    let tree = Tree::new(&[("folder/x", "")]);
    let folder = tree.path("folder");
    let kinds = [
        Kind::Number,
        Kind::Thermal,
        Kind::Hwmon,
        Kind::Iio,
        Kind::OneWire,
        Kind::PowerSupply,
        Kind::Json,
        Kind::Csv,
    ];
    for (path, what) in [
        (folder.as_path(), "directory"),
        (Path::new("/dev/null"), "device"),
    ] {
        for kind in kinds {
            let error = reader(kind).read(path).unwrap_err();
            let expected = format!("it is a {what}, not a regular file");
            assert_eq!(error.to_string(), expected, "{kind:?}");
        }
    }
}
