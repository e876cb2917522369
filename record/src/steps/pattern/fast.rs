//! The same pattern for the other engine: `regex`, which is several times as fast and several times as
//! large.
//!
//! What `regex-lite` takes, `regex` takes too, but three things mean more in it: `\d`, `\w`, `\s` and `\b` are
//! Unicode's, and so is `(?i)`. The first are written out as ASCII, so that a step means the same on a
//! device and in the cloud, where it runs by either; what sets `i` stays with the small engine.

use regex::{Regex, RegexBuilder};
use regex_syntax::ast::parse::Parser;
use regex_syntax::ast::{
    AssertionKind, Ast, ClassPerl, ClassPerlKind, ClassSetItem, Flag, Flags, FlagsItemKind,
    GroupKind, Span, Visitor, visit,
};

/// Most memory of one compiled pattern, and of what the engine keeps while it searches, bytes each; above
/// it the small engine runs, which needs less.
const SIZE_MAX: usize = 2 * 1024 * 1024;

/// Compiles it; `None` where it would mean something else than in the small engine, or is too large.
pub(super) fn compile(pattern: &str) -> Option<Regex> {
    RegexBuilder::new(&in_ascii(pattern)?)
        .size_limit(SIZE_MAX)
        .dfa_size_limit(SIZE_MAX)
        .build()
        .ok()
}

/// The pattern, with what is Unicode's in `regex` written out as ASCII.
fn in_ascii(pattern: &str) -> Option<String> {
    let ast = Parser::new().parse(pattern).ok()?;
    let changes = visit(&ast, Changes::default()).ok()?;
    let mut written = String::with_capacity(pattern.len());
    let mut copied = 0;
    for (span, text) in changes.0 {
        written.push_str(pattern.get(copied..span.start.offset)?);
        written.push_str(text);
        copied = span.end.offset;
    }
    written.push_str(pattern.get(copied..)?);
    Some(written)
}

/// What stands where in the pattern, and what takes its place; in order.
#[derive(Default)]
struct Changes(Vec<(Span, &'static str)>);

/// Something that cannot be written out.
struct Unlike;

impl Changes {
    fn class(&mut self, class: &ClassPerl) {
        let text = match (&class.kind, class.negated) {
            (ClassPerlKind::Digit, false) => "[0-9]",
            (ClassPerlKind::Digit, true) => "[^0-9]",
            (ClassPerlKind::Space, false) => r"[\t\n\v\f\r\x20]",
            (ClassPerlKind::Space, true) => r"[^\t\n\v\f\r\x20]",
            (ClassPerlKind::Word, false) => "[0-9A-Za-z_]",
            (ClassPerlKind::Word, true) => "[^0-9A-Za-z_]",
        };
        self.0.push((class.span, text));
    }
}

impl Visitor for Changes {
    type Output = Self;
    type Err = Unlike;

    fn finish(self) -> Result<Self, Unlike> {
        Ok(self)
    }

    fn visit_pre(&mut self, ast: &Ast) -> Result<(), Unlike> {
        match ast {
            Ast::ClassPerl(class) => self.class(class),
            Ast::Assertion(assertion) => {
                let text = match assertion.kind {
                    AssertionKind::WordBoundary => r"(?-u:\b)",
                    AssertionKind::NotWordBoundary => r"(?-u:\B)",
                    AssertionKind::WordBoundaryStart | AssertionKind::WordBoundaryStartAngle => {
                        r"(?-u:\b{start})"
                    }
                    AssertionKind::WordBoundaryEnd | AssertionKind::WordBoundaryEndAngle => {
                        r"(?-u:\b{end})"
                    }
                    AssertionKind::WordBoundaryStartHalf => r"(?-u:\b{start-half})",
                    AssertionKind::WordBoundaryEndHalf => r"(?-u:\b{end-half})",
                    AssertionKind::StartLine
                    | AssertionKind::EndLine
                    | AssertionKind::StartText
                    | AssertionKind::EndText => return Ok(()),
                };
                self.0.push((assertion.span, text));
            }
            Ast::Flags(set) if is_unlike(&set.flags) => return Err(Unlike),
            Ast::Group(group) => {
                if let GroupKind::NonCapturing(flags) = &group.kind
                    && is_unlike(flags)
                {
                    return Err(Unlike);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn visit_class_set_item_pre(&mut self, item: &ClassSetItem) -> Result<(), Unlike> {
        if let ClassSetItem::Perl(class) = item {
            self.class(class);
        }
        Ok(())
    }
}

/// `i` folds by Unicode in `regex`; `u` is no flag of the small engine's that would do the same.
fn is_unlike(flags: &Flags) -> bool {
    let is = |item: &FlagsItemKind| {
        matches!(
            item,
            FlagsItemKind::Flag(Flag::CaseInsensitive | Flag::Unicode)
        )
    };
    flags.items.iter().any(|item| is(&item.kind))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{Engine, Pattern};
    use super::*;

    #[test]
    fn what_is_unicodes_is_written_out() {
        for (pattern, written) in [
            (r"^\d+\b$", r"^[0-9]+(?-u:\b)$"),
            (r"[^\w.-]\S", r"[^[0-9A-Za-z_].-][^\t\n\v\f\r\x20]"),
            (r"(?x) \s # a \d here", r"(?x) [\t\n\v\f\r\x20] # a \d here"),
            (r"(?P<a>\\d)", r"(?P<a>\\d)"),
        ] {
            assert_eq!(in_ascii(pattern).as_deref(), Some(written), "{pattern}");
        }
        for unlike in ["(?i)k", "(?i:k)", "(?s-i)k", "(?u)."] {
            assert_eq!(in_ascii(unlike), None, "{unlike}");
        }
    }

    #[test]
    fn patterns_of_logs_run_by_the_fast_engine() {
        for pattern in [
            r"^(?P<day>[0-9-]+)T(?P<clock>[0-9:]+)Z$",
            r#"^(?<ip>\S+) \S+ (?<user>\S+) \[(?<time>[^\]]+)\] "(?<method>\w+) (?<path>[^" ]*)"#,
            r"\b\d{16}\b",
        ] {
            assert!(compile(pattern).is_some(), "{pattern}");
        }
    }

    /// Parts of patterns, each of which means something.
    fn part() -> impl Strategy<Value = String> {
        let leaf = prop::sample::select(vec![
            "a",
            "é",
            "K",
            "_",
            "1",
            r"\d",
            r"\D",
            r"\w",
            r"\W",
            r"\s",
            r"\S",
            r"\b",
            r"\B",
            r"\b{start}",
            r"\b{end}",
            r"\b{start-half}",
            r"\<",
            "^",
            "$",
            r"\A",
            r"\z",
            ".",
            "[a-k]",
            "[^a]",
            r"[\d_]",
            r"[^\w ]",
            r"[^\S\n]",
            "[[:alpha:]]",
            "[[:^space:]]",
            "[é-٣]",
            "(?m)",
            "(?s)",
            "(?i)",
            "(?x) ",
            "(?R)",
            "(?U)",
        ]);
        leaf.prop_map(str::to_owned)
            .prop_recursive(4, 24, 4, |inner| {
                prop_oneof![
                    prop::collection::vec(inner.clone(), 1..4).prop_map(|parts| parts.concat()),
                    inner.clone().prop_map(|part| format!("({part})")),
                    inner.clone().prop_map(|part| format!("(?:{part})?")),
                    inner.clone().prop_map(|part| format!("(?:{part})*?")),
                    inner.clone().prop_map(|part| format!("(?:{part}){{1,2}}")),
                    (inner.clone(), inner).prop_map(|(one, other)| format!("(?:{one}|{other})")),
                ]
            })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]

        /// With text of letters that Unicode and ASCII do not hold for the same.
        #[test]
        fn both_engines_find_the_same(
            inner in part(),
            text in "[aAkKſé1_٣ \u{a0}\u{2028}\u{85}\u{b}\u{212a}\r\n\u{0}]{0,12}",
        ) {
            let pattern = format!("(?<all>{inner})");
            let (Ok(small), Ok(fast)) = (
                Pattern::new(&pattern, Engine::Small),
                Pattern::new(&pattern, Engine::Fast),
            ) else {
                return Ok(());
            };
            prop_assert_eq!(small.is_in(&text), fast.is_in(&text));
            prop_assert_eq!(small.groups(&text), fast.groups(&text));
            let found: Vec<_> = small.matches(&text).collect();
            prop_assert_eq!(found, fast.matches(&text).collect::<Vec<_>>());
        }
    }
}
