//! A line of Docker's json-file:
//!
//! ```text
//! {"log":"a whole line\n","stream":"stdout","time":"2026-11-24T08:15:00.669794202Z"}
//! {"log":"the beginning of a line that goes on in the next","stream":"stderr","time":"…"}
//! ```
//!
//! Fields, named as those of [`super::cri`]: `timestamp`, `stream`, `message` (without its line feed),
//! and `partial: true` where it had none, so that the line goes on; what else the object holds
//! (`attrs`) stays, with an underscore behind a name that is one of these. One line at a time: whoever
//! reads the file joins the parts (the agent's `multiline = { preset = "docker" }`).
//! Source: moby, `daemon/logger/jsonfilelog/jsonlog`, `JSONLog`.

use serde_json::Value;

use super::super::Row;

pub(super) fn parse(text: &str) -> Result<Row, &'static str> {
    const WRONG: &str = "not of Docker's json-file: an object with a text `log`";
    let mut fields: Row = serde_json::from_str(text).map_err(|_| WRONG)?;
    let Some(Value::String(mut message)) = fields.shift_remove("log") else {
        return Err(WRONG);
    };
    let mut row = Row::new();
    for (from, to) in [("time", "timestamp"), ("stream", "stream")] {
        if let Some(value) = fields.shift_remove(from) {
            row.insert(to.into(), value);
        }
    }
    if message.ends_with('\n') {
        message.pop();
    } else {
        row.insert("partial".into(), true.into());
    }
    row.insert("message".into(), message.into());
    for (mut name, value) in fields {
        // The runtime writes no such fields: whoever wrote them, they do not take the place of its own.
        while row.contains_key(&name) {
            name.push('_');
        }
        row.insert(name, value);
    }
    Ok(row)
}
