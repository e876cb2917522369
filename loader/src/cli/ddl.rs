//! `headwater-loader ddl`: an Athena table over what a configuration writes, with partition
//! projection: no crawler, no `ADD PARTITION`, and a query reads only the paths that it asks for.

use std::fmt::Write;

use anyhow::ensure;

use crate::cli::print;
use crate::config::{Output, Plan};
use crate::format::{Column, ColumnType, Kind};
use crate::route::{Folder, Holds};

/// Hive's reader of CSV, set to what [`crate::format`] writes: RFC 4180, in which a quote is doubled and
/// nothing is escaped. That reader cannot be without an escape: by default it is the backslash, which it then
/// takes out of every text, and `"` means the backslash to it, too. So it is given a character that no text
/// has: a control character without a meaning today.
const CSV_SERDE: &str = r#"ROW FORMAT SERDE 'org.apache.hadoop.hive.serde2.OpenCSVSerde'
WITH SERDEPROPERTIES ('separatorChar' = ',', 'quoteChar' = '"', 'escapeChar' = '\u0019')
STORED AS TEXTFILE
"#;

/// Prints the table's definition.
///
/// # Errors
/// The configuration writes nothing that Athena can project.
pub fn ddl(plan: &Plan, columns: &[Column]) -> anyhow::Result<()> {
    print(&table(plan, columns)?)
}

/// A partition column: name, type, and its projection's properties.
struct Projected {
    name: String,
    kind: &'static str,
    properties: Vec<(&'static str, String)>,
}

fn table(plan: &Plan, columns: &[Column]) -> anyhow::Result<String> {
    let Output::S3(s3) = &plan.output else {
        anyhow::bail!("output.url is a folder: Athena reads s3://");
    };
    let spec = plan.pipeline.spec();
    let kind = spec.format.kind;
    ensure!(
        kind != Kind::Raw,
        "output.format is raw: its lines have no columns to make a table of"
    );
    let folders = spec.path.folders().map_err(anyhow::Error::msg)?;
    let partitions = folders
        .iter()
        .map(project)
        .collect::<anyhow::Result<Vec<_>>>()?;
    let location = format!("s3://{}/{}", s3.bucket, s3.prefix);
    let mut text = String::new();
    writeln!(
        text,
        "CREATE EXTERNAL TABLE {} (",
        quoted(&plan.kafka.topic.replace(['.', '-'], "_").to_lowercase())
    )?;
    let columns = data_columns(plan, columns, &partitions)?;
    writeln!(text, "{}\n)", columns.join(",\n"))?;
    if !partitions.is_empty() {
        let list: Vec<String> = partitions
            .iter()
            .map(|partition| format!("{} {}", quoted(&partition.name), partition.kind))
            .collect();
        writeln!(text, "PARTITIONED BY ({})", list.join(", "))?;
    }
    text.push_str(match kind {
        Kind::Parquet => "STORED AS PARQUET\n",
        Kind::Csv => CSV_SERDE,
        Kind::Ndjson | Kind::Raw => {
            "ROW FORMAT SERDE 'org.openx.data.jsonserde.JsonSerDe'\nSTORED AS TEXTFILE\n"
        }
    });
    writeln!(text, "LOCATION '{location}'")?;
    let mut properties = Vec::new();
    if kind == Kind::Csv {
        properties.push(("skip.header.line.count".to_owned(), "1".to_owned()));
    }
    if !partitions.is_empty() {
        properties.push(("projection.enabled".to_owned(), "true".to_owned()));
        for partition in &partitions {
            for (key, value) in &partition.properties {
                properties.push((
                    format!("projection.{}.{key}", partition.name),
                    value.clone(),
                ));
            }
        }
        let path: String = partitions
            .iter()
            .map(|partition| format!("{0}=${{{0}}}/", partition.name))
            .collect();
        properties.push(("storage.location.template".to_owned(), location + &path));
    }
    if !properties.is_empty() {
        let list: Vec<String> = properties
            .iter()
            .map(|(key, value)| format!("  '{key}' = '{value}'"))
            .collect();
        write!(text, "TBLPROPERTIES (\n{}\n)", list.join(",\n"))?;
    }
    Ok(text.trim_end().to_owned() + ";\n")
}

/// The columns that lie in the files. What is a partition column too stands there already; a CSV is
/// read by position, so there it cannot be left out.
fn data_columns(
    plan: &Plan,
    declared: &[Column],
    partitions: &[Projected],
) -> anyhow::Result<Vec<String>> {
    let format = &plan.pipeline.spec().format;
    let agents = ["device", "source", "time", "message"].map(|name| Column {
        name: name.to_owned(),
        kind: ColumnType::String,
    });
    let columns = match declared.is_empty() {
        true => agents.as_slice(),
        false => declared,
    };
    let overflow = format.overflow.iter().map(|name| Column {
        name: name.clone(),
        kind: ColumnType::Json,
    });
    let mut lines = Vec::new();
    for column in columns.iter().cloned().chain(overflow) {
        if partitions
            .iter()
            .any(|partition| partition.name.eq_ignore_ascii_case(&column.name))
        {
            ensure!(
                format.kind != Kind::Csv,
                "{0:?} is a column and a part of output.path, and Athena wants two names: write the \
                 path as by_{0}={{{0}}}, say",
                column.name
            );
            continue;
        }
        let kind = match (format.kind, column.kind) {
            // Its SerDe reads texts; times of RFC 3339 are none for the JSON one either.
            (Kind::Csv, _)
            | (_, ColumnType::String | ColumnType::Json)
            | (Kind::Ndjson, ColumnType::Timestamp) => "string",
            (_, ColumnType::Int) => "bigint",
            (_, ColumnType::Float) => "double",
            (_, ColumnType::Bool) => "boolean",
            (_, ColumnType::Timestamp) => "timestamp",
        };
        lines.push(format!("  {} {kind}", quoted(&column.name)));
    }
    ensure!(!lines.is_empty(), "every column is a part of output.path");
    Ok(lines)
}

fn project(folder: &Folder) -> anyhow::Result<Projected> {
    let whole = |from: &str, to: &str, digits: usize| {
        vec![
            ("type", "integer".to_owned()),
            ("range", format!("{from},{to}")),
            ("digits", digits.to_string()),
        ]
    };
    let (kind, properties) = match &folder.holds {
        // Values are not known beforehand: a query names them.
        Holds::Value => ("string", vec![("type", "injected".to_owned())]),
        Holds::Time(format) => match format.as_str() {
            "%Y" => ("int", whole("2020", "2099", 4)),
            "%m" => ("int", whole("1", "12", 2)),
            "%d" => ("int", whole("1", "31", 2)),
            "%H" => ("int", whole("0", "23", 2)),
            "%M" => ("int", whole("0", "59", 2)),
            "%j" => ("int", whole("1", "366", 3)),
            format => ("string", date(format)?),
        },
    };
    Ok(Projected {
        name: folder.name.clone(),
        kind,
        properties,
    })
}

/// A projection of type `date`: Java's pattern, and steps of its finest unit.
fn date(format: &str) -> anyhow::Result<Vec<(&'static str, String)>> {
    let units = [
        ("%Y", "yyyy", "YEARS"),
        ("%m", "MM", "MONTHS"),
        ("%d", "dd", "DAYS"),
        ("%j", "DDD", "DAYS"),
        ("%H", "HH", "HOURS"),
        ("%M", "mm", "MINUTES"),
    ];
    ensure!(
        format.starts_with("%Y"),
        "output.path: Athena projects a time that begins with its year, and {format:?} does not"
    );
    let (mut java, mut finest) = (String::new(), "YEARS");
    let mut rest = format;
    while let Some(c) = rest.chars().next() {
        if let Some((unit, pattern, name)) = units.iter().find(|(unit, ..)| rest.starts_with(unit))
        {
            java.push_str(pattern);
            finest = name;
            rest = &rest[unit.len()..];
            continue;
        }
        ensure!(
            !c.is_ascii_alphabetic() && c != '\'',
            "output.path: letters between the units of a time ({format:?}) are no pattern that Athena \
             projects; use '-' or folders of their own"
        );
        java.push(c);
        rest = &rest[c.len_utf8()..];
    }
    Ok(vec![
        ("type", "date".to_owned()),
        ("format", java),
        ("range", "NOW-5YEARS,NOW+1DAY".to_owned()),
        ("interval", "1".to_owned()),
        ("interval.unit", finest.to_owned()),
    ])
}

fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ConfigFile;

    fn ddl(output: &str) -> anyhow::Result<String> {
        let text = format!(
            "[kafka]\nbrokers=['localhost:1']\ntopic='logs.v1'\n[group]\nid='g'\n[output]\nurl='s3://bucket/data'\n{output}"
        );
        let file: ConfigFile = headwater_msk::config_file::parse(&text).unwrap();
        let plan = Plan::new(&file, crate::config::file::Tables::new(), None).unwrap();
        table(&plan, &file.output.column)
    }

    #[test]
    fn the_golden_tables() {
        assert_eq!(
            ddl("").unwrap(),
            "CREATE EXTERNAL TABLE `logs_v1` (\n  `device` string,\n  `time` string,\n  `message` string\n)\n\
             PARTITIONED BY (`source` string, `date` string, `hour` int)\n\
             ROW FORMAT SERDE 'org.openx.data.jsonserde.JsonSerDe'\nSTORED AS TEXTFILE\n\
             LOCATION 's3://bucket/data/'\nTBLPROPERTIES (\n\
             \x20 'projection.enabled' = 'true',\n\
             \x20 'projection.source.type' = 'injected',\n\
             \x20 'projection.date.type' = 'date',\n\
             \x20 'projection.date.format' = 'yyyy-MM-dd',\n\
             \x20 'projection.date.range' = 'NOW-5YEARS,NOW+1DAY',\n\
             \x20 'projection.date.interval' = '1',\n\
             \x20 'projection.date.interval.unit' = 'DAYS',\n\
             \x20 'projection.hour.type' = 'integer',\n\
             \x20 'projection.hour.range' = '0,23',\n\
             \x20 'projection.hour.digits' = '2',\n\
             \x20 'storage.location.template' = 's3://bucket/data/source=${source}/date=${date}/hour=${hour}/'\n);\n"
        );
        let parquet = ddl("format='parquet'\npath='at={time:%Y-%m-%d-%H}'\n[[output.column]]\nname='t'\ntype='timestamp'\n[[output.column]]\nname='n'\ntype='int'\n").unwrap();
        assert!(
            parquet.contains("  `t` timestamp,\n  `n` bigint,\n  `_rest` string\n)"),
            "{parquet}"
        );
        assert!(parquet.contains("'yyyy-MM-dd-HH'"), "{parquet}");
        assert!(parquet.contains("STORED AS PARQUET"), "{parquet}");
    }

    /// A row of CSV as the reader with these settings takes it: open-csv's rules, as Hive and Trino have them.
    fn as_read(line: &str, [separator, quote, escape]: [char; 3]) -> Vec<String> {
        let (mut cells, mut cell, mut quoted) = (Vec::new(), String::new(), false);
        let mut chars = line.chars().peekable();
        while let Some(c) = chars.next() {
            let next = chars.peek().copied();
            let takes = |allowed: &[char]| next.filter(|next| quoted && allowed.contains(next));
            if c == escape {
                cell.extend(takes(&[quote, escape]).and_then(|_| chars.next()));
            } else if c == quote && takes(&[quote]).is_some() {
                cell.extend(chars.next());
            } else if c == quote {
                quoted = !quoted;
            } else if c == separator && !quoted {
                cells.push(std::mem::take(&mut cell));
            } else {
                cell.push(c);
            }
        }
        cells.push(cell);
        cells
    }

    /// What a property of the reader is set to.
    fn set(table: &str, name: &str) -> Option<char> {
        let (_, value) = table.split_once(&format!("'{name}' = '"))?;
        let (value, _) = value.split_once('\'')?;
        match value.strip_prefix("\\u") {
            Some(code) => char::from_u32(u32::from_str_radix(code, 16).ok()?),
            None => value.chars().next(),
        }
    }

    #[test]
    fn athena_reads_the_csv_that_is_written() {
        let columns = ["a", "b", "c"].map(|name| Column {
            name: name.into(),
            kind: ColumnType::String,
        });
        let named = |name: &str| format!("[[output.column]]\nname='{name}'\ntype='string'\n");
        let table = format!("format='csv'\n{}", ["a", "b", "c"].map(named).concat());
        let table = ddl(&table).unwrap();
        let settings = ["separatorChar", "quoteChar", "escapeChar"].map(|name| set(&table, name));
        let format = crate::format::Format {
            kind: Kind::Csv,
            columns: columns.to_vec(),
            ..<_>::default()
        };
        for texts in [
            [r"C:\temp\new", r#"he said \"no\""#, r"ends with one\"],
            [r#""quoted""#, "a,b", r#"{"path":"\\srv\\x","n":1}"#],
            [r#"\"#, "", r#"," \\ ","#],
        ] {
            let row = ["a", "b", "c"].into_iter().map(str::to_owned);
            let row = row.zip(texts.map(Into::into)).collect();
            let mut line = Vec::new();
            format.write(&row, &mut line).unwrap();
            let line = String::from_utf8(line).unwrap();
            let read = as_read(&line, settings.map(|set| set.unwrap_or('\\')));
            assert_eq!(read, texts, "{line}");
        }
    }

    #[test]
    fn what_athena_cannot_project_is_said() {
        for (output, word) in [
            ("path='{source}'", "name=value"),
            ("path='d={time:%d-%Y}'", "begins with its year"),
            ("path='d={time:%Y-%m-%dT%H}'", "letters"),
            ("format='raw'", "raw"),
            (
                "format='csv'\n[[output.column]]\nname='source'\ntype='string'",
                "two names",
            ),
        ] {
            let error = ddl(output).unwrap_err().to_string();
            assert!(error.contains(word), "{output}: {error}");
        }
    }
}
