//! Which of VRL's functions a program may call: those that are a function of their arguments alone, the
//! same on every machine, and whose result is bounded by what they are given. The list names what is let
//! in, so that a new version's function stays out until somebody has read it.
//!
//! Every function was read for: the clock, chance, the environment, files, the network, the order of a
//! hash table, mathematics whose last digit the machine's library decides, recursion as deep as a
//! device's text, and results much larger than what they are made of.

use vrl::value::Value;

/// Let in as they are.
#[rustfmt::skip]
pub const ALLOWED: &[&str] = &[
    "abs", "append", "array", "assert", "assert_eq", "basename", "bool", "camelcase", "ceil",
    "chunks", "community_id", "compact", "contains", "contains_all", "decode_base16",
    "decode_base64", "decode_charset", "decode_mime_q", "decode_percent", "decode_punycode", "del",
    "dirname", "downcase", "encode_base16", "encode_base64", "encode_charset", "encode_csv",
    "encode_gzip", "encode_json", "encode_key_value", "encode_logfmt", "encode_lz4",
    "encode_percent", "encode_punycode", "encode_snappy", "encode_zlib", "encode_zstd", "ends_with",
    "exists", "filter", "find", "float", "floor", "for_each", "format_int",
    "format_number", "from_entries", "from_unix_timestamp", "get", "includes", "int", "ip_aton",
    "ip_cidr_contains", "ip_ntoa", "ip_ntop", "ip_pton", "ip_subnet", "ip_to_ipv6", "ipv6_to_ipv4",
    "is_array", "is_boolean", "is_empty", "is_float", "is_integer", "is_ipv4", "is_ipv6", "is_json",
    "is_null", "is_nullish", "is_object", "is_regex", "is_string", "is_timestamp", "join",
    "kebabcase", "keys", "length", "map_keys", "map_values", "match", "match_any", "match_array",
    "match_datadog_query", "merge", "mod", "object", "object_from_array", "parse_apache_log",
    "parse_aws_alb_log", "parse_aws_cloudwatch_log_subscription_message", "parse_aws_vpc_flow_log",
    "parse_bytes", "parse_cbor", "parse_common_log", "parse_csv", "parse_duration", "parse_float",
    "parse_glog", "parse_grok", "parse_influxdb", "parse_int", "parse_json", "parse_key_value",
    "parse_logfmt", "parse_nginx_log", "parse_query_string", "parse_regex", "parse_regex_all",
    "parse_tokens", "parse_url", "parse_user_agent", "pascalcase", "pop", "push", "range", "redact",
    "remove", "replace", "replace_with", "round", "screamingsnakecase", "sieve", "slice",
    "snakecase", "split", "split_path", "starts_with", "string", "strip_ansi_escape_codes",
    "strip_whitespace", "strlen", "tag_types_externally", "tally", "tally_value", "timestamp",
    "to_bool", "to_entries", "to_float", "to_int", "to_regex", "to_string", "to_syslog_facility",
    "to_syslog_facility_code", "to_syslog_level", "to_syslog_severity", "to_unix_timestamp",
    "truncate", "type_def", "unique", "upcase", "uuid_from_friendly_id", "values", "zip",
];

/// Let in where an argument is written out and is not one of these.
pub const GUARDED: &[Guard] = &[
    Guard {
        function: "format_timestamp",
        argument: "timezone",
        not: |value| is_local(value),
        why: "the machine's own time zone is another one elsewhere: name the zone",
    },
    Guard {
        function: "parse_timestamp",
        argument: "timezone",
        not: |value| is_local(value),
        why: "the machine's own time zone is another one elsewhere: name the zone",
    },
    Guard {
        function: "parse_cef",
        argument: "translate_custom_fields",
        not: |value| *value != Value::Boolean(false),
        why: "of two custom fields with one label, chance would decide which is kept",
    },
    Guard {
        function: "set",
        argument: "path",
        not: |_| false,
        why: "a path that a device chooses has no bound in depth and length",
    },
];

/// Kept out, and why. `now` is not among them: ours takes its place.
pub const REFUSED: &[(&str, &str)] = &[
    ("random_bool", CHANCE),
    ("random_bytes", CHANCE),
    ("random_float", CHANCE),
    ("random_int", CHANCE),
    ("uuid_v4", CHANCE),
    ("uuid_v7", CHANCE),
    ("get_env_var", MACHINE),
    ("get_hostname", MACHINE),
    ("get_timezone_name", MACHINE),
    ("dns_lookup", WORLD),
    ("reverse_dns", WORLD),
    ("http_request", WORLD),
    ("parse_etld", FILES),
    ("parse_proto", FILES),
    ("encode_proto", FILES),
    ("validate_json_schema", FILES),
    (
        "parse_groks",
        "it reads files and takes missing parts of a date from the clock; `parse_grok` is there",
    ),
    (
        "parse_syslog",
        "it takes the year from the clock; the step `parse` with format = \"syslog\" is there",
    ),
    ("parse_linux_authorization", YEAR),
    ("parse_klog", YEAR),
    (
        "log",
        "a batch that is made again would say it twice, and a busy topic would fill the log",
    ),
    ("haversine", DIGITS),
    ("shannon_entropy", DIGITS),
    ("decode_gzip", BOMB),
    ("decode_zlib", BOMB),
    ("decode_zstd", BOMB),
    ("decode_lz4", BOMB),
    ("decode_snappy", BOMB),
    ("unflatten", DEEP),
    (
        "flatten",
        "a long name would stand before each of its leaves; the step `flatten` is there, and bounded",
    ),
    (
        "unnest",
        "the whole row would stand beside each of a list's values, and a record becomes one row",
    ),
    ("parse_ruby_hash", DEEP),
    ("parse_xml", DEEP),
    ("parse_yaml", DEEP),
];

const CHANCE: &str = "a batch that is made again must come out the same; the record's place is the same \
     (%hw.topic, %hw.partition, %hw.offset)";
const MACHINE: &str = "it differs from machine to machine, and a batch may be made again elsewhere";
const WORLD: &str =
    "its answer may be another one when a batch is made again; use a table and `lookup`";
const FILES: &str = "it reads a file that is no part of the pipeline";
const YEAR: &str =
    "it takes the year from the clock; `parse_regex` and `parse_timestamp` are there";
const DIGITS: &str =
    "its last digit depends on the machine's library, and a batch may be made again elsewhere";
const BOMB: &str = "a kilobyte from a device may become gigabytes";
const DEEP: &str = "it goes as deep as a device's text says, and that would end the process";

/// A condition on an argument of a function that is let in.
#[derive(Debug, Clone, Copy)]
pub struct Guard {
    /// The function.
    pub function: &'static str,
    /// The argument that has to be a literal.
    pub argument: &'static str,
    /// What it must not be.
    pub not: fn(&Value) -> bool,
    /// Why.
    pub why: &'static str,
}

fn is_local(value: &Value) -> bool {
    value
        .to_str_lossy()
        .is_none_or(|zone| zone.is_empty() || zone.eq_ignore_ascii_case("local"))
}
