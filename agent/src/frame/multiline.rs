//! Which lines belong to one event: by a pattern, or by one of the forms that are known. Pure.
//!
//! Whether a line begins or continues an event is told by at most [`PATTERN_BYTES`] of it; whether
//! it is the last of one, by all of it.

use std::str::FromStr;

use regex_lite::{Regex, RegexBuilder};

use super::parts::{self, Output};

/// So much of a line tells whether it begins or continues an event, in bytes of the file.
pub const PATTERN_BYTES: usize = 2048;
/// Most that a compiled pattern may take, bytes.
const PATTERN_SIZE_MAX: usize = 256 * 1024;

/// How lines are gathered into events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Multiline {
    /// A line that matches begins an event.
    Start(Pattern),
    /// A line that matches goes on with the event before it.
    Continue(Pattern),
    /// A line that matches is the last of its event.
    End(Pattern),
    /// A form that is known.
    Preset(Preset),
}

/// A regular expression, equal to another of the same text.
#[derive(Debug, Clone)]
pub struct Pattern {
    regex: Regex,
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.regex.as_str() == other.regex.as_str()
    }
}

impl Eq for Pattern {}

impl Pattern {
    /// Its text.
    pub fn as_str(&self) -> &str {
        self.regex.as_str()
    }
}

impl FromStr for Pattern {
    type Err = regex_lite::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let regex = RegexBuilder::new(text)
            .size_limit(PATTERN_SIZE_MAX)
            .build()?;
        Ok(Self { regex })
    }
}

/// Forms that are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Preset {
    /// Stack traces of the JVM: indented lines, `Caused by:`, `Suppressed:`.
    Java,
    /// Tracebacks, chained ones too, with the line of the exception.
    Python,
    /// Panics and the goroutines after them.
    Go,
    /// The files of a container runtime (CRI): `P` marks a part, `F` the last one. Parts of one output
    /// are made into the line that they are of: see [`super::parts`].
    Cri,
    /// Docker's json-file: a part is an object whose `log` does not end with a line feed. The same.
    Docker,
}

/// An event under way.
#[derive(Debug)]
pub(super) struct Event<'a> {
    rule: &'a Multiline,
    trace: Trace,
}

/// Where a trace stands, as far as its form has places.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trace {
    /// Not in one; for forms with a last line: it has come.
    No,
    /// In one; for forms with a last line: it has not come.
    Yes,
    /// Behind the line that ends a traceback: another may be chained to it.
    Behind,
    /// Behind a part of a line of this output: another is to come.
    Part(Output),
}

impl Multiline {
    /// Whether the end of a line counts, so that all of it must be looked at.
    pub(super) fn looks_at_ends(&self) -> bool {
        matches!(self, Self::End(_) | Self::Preset(Preset::Docker))
    }
}

impl<'a> Event<'a> {
    /// One that begins with `line`.
    pub(super) fn new(rule: &'a Multiline, line: &str) -> Self {
        let trace = match rule {
            Multiline::Start(_) | Multiline::Continue(_) | Multiline::Preset(Preset::Java) => {
                Trace::No
            }
            Multiline::End(pattern) => yes(!pattern.regex.is_match(line)),
            Multiline::Preset(Preset::Python) => yes(begins_traceback(line)),
            Multiline::Preset(Preset::Go) => yes(begins_panic(line)),
            Multiline::Preset(Preset::Cri) => part(parts::cri_part(line)),
            Multiline::Preset(Preset::Docker) => part(parts::unfinished_docker_part(line)),
        };
        Self { rule, trace }
    }

    /// Whether its last line is known to be there: whatever comes next is not its own.
    pub(super) fn is_over(&self) -> bool {
        let has_last = matches!(
            self.rule,
            Multiline::End(_) | Multiline::Preset(Preset::Cri | Preset::Docker)
        );
        has_last && self.trace == Trace::No
    }

    /// Whether a line that begins like this belongs to it, as far as its beginning tells.
    pub(super) fn takes(&self, line: &str) -> bool {
        match self.rule {
            Multiline::Start(pattern) => !pattern.regex.is_match(line),
            Multiline::Continue(pattern) => pattern.regex.is_match(line),
            Multiline::End(_) => self.trace == Trace::Yes,
            // A line of the other output is between two parts, and none of them.
            Multiline::Preset(Preset::Cri) => {
                parts::cri_part(line).is_some_and(|part| self.trace == Trace::Part(part.output))
            }
            Multiline::Preset(Preset::Docker) => {
                matches!(self.trace, Trace::Part(_)) && parts::begins_as_docker(line)
            }
            Multiline::Preset(Preset::Java) => goes_on_in_java(line),
            Multiline::Preset(Preset::Python) => self.python(line).0,
            Multiline::Preset(Preset::Go) => {
                begins_panic(line) || self.trace == Trace::Yes && goes_on_in_go(line)
            }
        }
    }

    /// Whether a line that it [takes](Self::takes) belongs to it, all of it known.
    pub(super) fn takes_whole(&self, line: &str) -> bool {
        match self.rule {
            Multiline::Preset(Preset::Docker) => {
                parts::docker_part(line).is_some_and(|part| self.trace == Trace::Part(part.output))
            }
            _ => true,
        }
    }

    /// Takes note of a line that belongs to it.
    pub(super) fn add(&mut self, line: &str) {
        self.trace = match self.rule {
            Multiline::Preset(Preset::Python) => self.python(line).1,
            Multiline::Preset(Preset::Go) => Trace::Yes,
            rule => Event::new(rule, line).trace,
        };
    }

    /// A traceback is indented lines, and the exception's own line, which is not. Another may be
    /// chained to it, after an empty line and a sentence.
    fn python(&self, line: &str) -> (bool, Trace) {
        let is_chain = line.starts_with("During handling of the above exception")
            || line.starts_with("The above exception was the direct cause");
        match self.trace {
            _ if begins_traceback(line) => (true, Trace::Yes),
            Trace::Yes if line.starts_with([' ', '\t']) => (true, Trace::Yes),
            Trace::Yes => (!line.is_empty(), Trace::Behind),
            Trace::Behind => (line.is_empty() || is_chain, Trace::Behind),
            Trace::No | Trace::Part(_) => (false, Trace::No),
        }
    }
}

/// Whether a record that begins with `line` goes on with an event of an earlier one, as far as the
/// line tells.
pub(super) fn is_continued(rule: &Multiline, line: &str) -> bool {
    match rule {
        Multiline::Start(pattern) => !pattern.regex.is_match(line),
        Multiline::Continue(pattern) => pattern.regex.is_match(line),
        Multiline::Preset(Preset::Java) => goes_on_in_java(line),
        Multiline::End(_) | Multiline::Preset(_) => false,
    }
}

fn yes(is_so: bool) -> Trace {
    if is_so { Trace::Yes } else { Trace::No }
}

fn part(part: Option<parts::Part>) -> Trace {
    let unfinished = part.filter(|part| part.goes_on);
    unfinished.map_or(Trace::No, |part| Trace::Part(part.output))
}

fn goes_on_in_java(line: &str) -> bool {
    // `\tat a.b.C.d(C.java:1)`, `\t... 3 more`, `Caused by: …`, and the same indented.
    line.starts_with([' ', '\t'])
        || line.starts_with("Caused by: ")
        || line.starts_with("Suppressed: ")
        || line.starts_with("... ")
}

fn begins_traceback(line: &str) -> bool {
    line.starts_with("Traceback (most recent call last):")
}

fn begins_panic(line: &str) -> bool {
    line.starts_with("panic: ") || line.starts_with("fatal error: ") || is_goroutine(line)
}

fn is_goroutine(line: &str) -> bool {
    line.starts_with("goroutine ") && line.ends_with("]:")
}

fn goes_on_in_go(line: &str) -> bool {
    line.is_empty()
        || line.starts_with('\t')
        || line.starts_with("created by ")
        || line.starts_with("[signal ")
        || line.starts_with("exit status ")
        || line.starts_with("...additional frames elided...")
        // `main.work(0x1, {0x2, 0x3})`
        || line.ends_with(')') && line.split_once('(').is_some_and(|(name, _)| !name.contains(' '))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gathers lines; each event's number of lines.
    fn gather(rule: &Multiline, text: &str) -> Vec<usize> {
        let mut counts = Vec::new();
        let mut event: Option<Event<'_>> = None;
        for line in text.lines() {
            let takes = |event: &&mut Event<'_>| event.takes(line) && event.takes_whole(line);
            if let Some(event) = event.as_mut().filter(takes) {
                event.add(line);
                *counts.last_mut().unwrap() += 1;
            } else {
                event = Some(Event::new(rule, line));
                counts.push(1);
            }
        }
        counts
    }

    fn pattern(text: &str) -> Pattern {
        text.parse().unwrap()
    }

    #[test]
    fn patterns_gather_lines() {
        let start = Multiline::Start(pattern(r"^\d{4}-"));
        assert_eq!(
            gather(&start, "x\ny\n2026-1 a\nb\nc\n2026-2\n2026-3\n"),
            [2, 3, 1, 1]
        );
        let go_on = Multiline::Continue(pattern(r"^\s"));
        assert_eq!(gather(&go_on, "a\n b\n c\nd\ne\n\tf\n"), [3, 1, 2]);
        let end = Multiline::End(pattern(r";$"));
        assert_eq!(gather(&end, "select\n1;\nselect 2;\nx\n"), [2, 1, 1]);
        assert!(is_continued(&start, "b") && !is_continued(&start, "2026-1"));
        assert!(is_continued(&go_on, " b") && !is_continued(&end, "b"));
        assert!("(".parse::<Pattern>().is_err());
        assert!("a{1000}{1000}".parse::<Pattern>().is_err());
    }

    #[test]
    fn java_traces_are_one_event() {
        let text = "08:15 ERROR it failed\njava.lang.RuntimeException: a\n\tat a.B.c(B.java:1)\n\
                    Caused by: java.io.IOException: b\n\tat d.E.f(E.java:2)\n\t... 3 more\n\
                    \tSuppressed: x\n08:16 INFO next\n";
        // The exception's line begins an event where it stands for itself.
        assert_eq!(gather(&Multiline::Preset(Preset::Java), text), [1, 6, 1]);
    }

    #[test]
    fn python_tracebacks_are_one_event_chained_or_not() {
        let text = "ERROR:root:it failed\nTraceback (most recent call last):\n  File \"a.py\", line 1\n\
                    \x20   f()\nKeyError: 'a'\n\nDuring handling of the above exception, another \
                    exception occurred:\n\nTraceback (most recent call last):\n  File \"a.py\"\n\
                    ValueError: b\nINFO:root:next\nINFO:root:last\n";
        assert_eq!(gather(&Multiline::Preset(Preset::Python), text), [11, 1, 1]);
    }

    #[test]
    fn go_panics_are_one_event() {
        let text = "2026/11/24 start\npanic: runtime error: index out of range\n\t[recovered]\n\
                    [signal SIGSEGV: segmentation violation code=0x1]\n\ngoroutine 1 [running]:\n\
                    main.work(0x1, {0x2, 0x3})\n\t/src/main.go:12 +0x1d\nmain.main()\n\t/src/main.go:8\n\
                    \ngoroutine 7 [chan receive]:\ncreated by main.main in goroutine 1\n\t/src/x.go:1\n\
                    exit status 2\n2026/11/24 again\n";
        assert_eq!(gather(&Multiline::Preset(Preset::Go), text), [15, 1]);
    }

    #[test]
    fn parts_of_container_runtimes_are_one_event() {
        let cri = "2026-1T t P a\n2026-1T stdout P a\n2026-1T stdout P:x b\n2026-1T stdout F c\n\
                   2026-1T stderr P d\n2026-1T stdout P e\nno form\n2026-1T stdout F:P f\n\
                   2026-1T stdout F g\n";
        assert_eq!(
            gather(&Multiline::Preset(Preset::Cri), cri),
            [1, 3, 1, 1, 1, 1, 1]
        );
        let docker = "{\"log\":\"a\",\"stream\":\"stdout\"}\n\
                      {\"log\":\"b \\\"q\\\" \\n\",\"x\":1,\"stream\":\"stdout\"}\n\
                      {\"log\":\"c\\\\n\",\"x\":1}\n{\"log\":\"d\\n\"}\n\
                      {\"log\":\"e\",\"stream\":\"stderr\"}\n{\"log\":\"f\\n\",\"stream\":\"stdout\"}\n\
                      {\"log\":\"g\"}\n{\"log\":\"torn\nno form\n";
        assert_eq!(
            gather(&Multiline::Preset(Preset::Docker), docker),
            [2, 2, 1, 1, 1, 1, 1]
        );
        let is_over = |rule: &Multiline, line: &str| Event::new(rule, line).is_over();
        assert!(is_over(
            &Multiline::Preset(Preset::Cri),
            "2026-1T stdout F c"
        ));
        assert!(!is_over(
            &Multiline::Preset(Preset::Cri),
            "2026-1T stdout P c"
        ));
        assert!(is_over(&Multiline::End(pattern(";$")), "a;"));
        assert!(!is_over(&Multiline::Preset(Preset::Go), "a"));
    }
}
