//! One computed value of one window: what it has seen so far, and what it says.

mod merge;

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};
use serde_json::{Number, Value};

use super::Function;
use super::sketch::{Distinct, Quantiles};

/// Longest value, as JSON, that is kept for `first` and `last`.
const VALUE_BYTES_MAX: usize = 64 * 1024;

/// A value with the time of its record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Dated {
    at_ms: i64,
    /// As JSON: however deep it is, the state is not, and its memory is its length.
    json: Box<str>,
}

/// What was seen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Cell {
    /// Values.
    Count(u64),
    /// Their sum, and how many.
    Sum(Sum),
    /// The same; says their mean.
    Mean(Sum),
    /// The smallest number.
    Min(Option<Number>),
    /// The largest number.
    Max(Option<Number>),
    /// The earliest value.
    First(Option<Dated>),
    /// The latest value.
    Last(Option<Dated>),
    /// Hashes of the values.
    Distinct(Distinct),
    /// Sizes of the numbers.
    Quantile(Quantiles),
}

/// A sum that is exact as long as its numbers are whole.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Sum {
    n: u64,
    /// Of the whole numbers.
    whole: i64,
    /// Of the rest, and of whole numbers that did not fit.
    rest: f64,
    /// Whether `rest` has any.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    mixed: bool,
}

impl Sum {
    fn add(&mut self, number: &Number) {
        self.n += 1;
        let whole = number.as_i64().and_then(|n| self.whole.checked_add(n));
        match whole {
            Some(whole) => self.whole = whole,
            None => {
                self.mixed = true;
                // JSON has no infinity: a state that holds one cannot be read again.
                let rest = self.rest + number.as_f64().unwrap_or(0.0);
                self.rest = rest.clamp(f64::MIN, f64::MAX);
            }
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "a double is what JSON has")]
    fn total(&self) -> f64 {
        self.whole as f64 + self.rest
    }
}

/// A double as JSON; null where it is none that JSON has.
fn double(value: f64) -> Value {
    Number::from_f64(value).map_or(Value::Null, Value::Number)
}

/// A value as a number; texts that are numbers count as such.
fn number(value: &Value) -> Option<Number> {
    match value {
        Value::Number(number) => Some(number.clone()),
        Value::String(text) => {
            let text = text.trim();
            let whole = text.parse::<i64>().map(Number::from);
            let large = || text.parse::<u64>().map(Number::from).ok();
            let double = || Number::from_f64(text.parse().ok()?);
            whole.ok().or_else(large).or_else(double)
        }
        _ => None,
    }
}

/// Which of two numbers is the larger one, exactly: above 2^53 a double does not tell whole numbers
/// apart.
fn compare(a: &Number, b: &Number) -> Ordering {
    let double = |number: &Number| number.as_f64().unwrap_or(0.0);
    match (whole(a), whole(b)) {
        (Some(a), Some(b)) => a.cmp(&b),
        (Some(a), None) => compare_mixed(a, double(b)),
        (None, Some(b)) => compare_mixed(b, double(a)).reverse(),
        (None, None) => double(a).partial_cmp(&double(b)).unwrap_or(Ordering::Equal),
    }
}

/// The whole number that it is written as, where it is.
fn whole(number: &Number) -> Option<i128> {
    let signed = number.as_i64().map(i128::from);
    signed.or_else(|| number.as_u64().map(i128::from))
}

/// A whole number of 64 bits with a double.
fn compare_mixed(whole: i128, double: f64) -> Ordering {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a part is cut off that is looked at below; what i128 cannot hold becomes its nearest, which is \
                  beyond every number of 64 bits as well"
    )]
    let nearer_zero = double.trunc() as i128;
    let rest = 0.0_f64.partial_cmp(&double.fract());
    whole
        .cmp(&nearer_zero)
        .then(rest.unwrap_or(Ordering::Equal))
}

impl Cell {
    pub(super) fn new(function: Function) -> Self {
        match function {
            Function::Count => Self::Count(0),
            Function::Sum => Self::Sum(Sum::default()),
            Function::Mean => Self::Mean(Sum::default()),
            Function::Min => Self::Min(None),
            Function::Max => Self::Max(None),
            Function::First => Self::First(None),
            Function::Last => Self::Last(None),
            Function::Distinct => Self::Distinct(Distinct::default()),
            Function::Quantile => Self::Quantile(Quantiles::default()),
        }
    }

    /// Takes a value of a row that is of this time. What is no number is nothing to what needs one.
    /// Returns the bytes of memory that it brought or freed, about.
    pub(super) fn add(&mut self, value: &Value, at_ms: i64) -> isize {
        match self {
            Self::Count(n) => *n += 1,
            Self::Sum(sum) | Self::Mean(sum) => {
                if let Some(number) = number(value) {
                    sum.add(&number);
                }
            }
            Self::Min(held) => extreme(held, value, Ordering::Less),
            Self::Max(held) => extreme(held, value, Ordering::Greater),
            Self::First(held) => return date(held, value, at_ms, |new, old| new < old),
            Self::Last(held) => return date(held, value, at_ms, |new, old| new >= old),
            Self::Distinct(distinct) => {
                let brought = match value {
                    Value::String(text) => distinct.add(text),
                    other => distinct.add(&other.to_string()),
                };
                return brought.cast_signed();
            }
            Self::Quantile(quantiles) => {
                if let Some(value) = number(value).and_then(|number| number.as_f64()) {
                    return quantiles.add(value).cast_signed();
                }
            }
        }
        0
    }

    /// Memory beside its own size, about, bytes.
    pub(super) fn held(&self) -> usize {
        match self {
            Self::First(held) | Self::Last(held) => held.as_ref().map_or(0, Dated::held),
            Self::Distinct(distinct) => distinct.held(),
            Self::Quantile(quantiles) => quantiles.held(),
            Self::Count(_) | Self::Sum(_) | Self::Mean(_) | Self::Min(_) | Self::Max(_) => 0,
        }
    }

    /// What it says. `q`: the part for a quantile.
    pub(super) fn value(&self, q: f64) -> Value {
        match self {
            Self::Count(n) => (*n).into(),
            Self::Sum(sum) if sum.n == 0 => Value::Null,
            Self::Sum(sum) if !sum.mixed => sum.whole.into(),
            Self::Sum(sum) => double(sum.total()),
            Self::Mean(sum) if sum.n == 0 => Value::Null,
            #[expect(clippy::cast_precision_loss, reason = "a count of records")]
            Self::Mean(sum) => double(sum.total() / sum.n as f64),
            Self::Min(held) | Self::Max(held) => held.clone().map_or(Value::Null, Value::Number),
            Self::First(held) | Self::Last(held) => {
                let json = held.as_ref().map(|held| &*held.json);
                json.and_then(|json| serde_json::from_str(json).ok())
                    .unwrap_or_default()
            }
            Self::Distinct(distinct) => distinct.count().into(),
            Self::Quantile(quantiles) => quantiles.at(q).map_or(Value::Null, double),
        }
    }
}

/// Holds a number in place of one that it is so to.
fn extreme(held: &mut Option<Number>, value: &Value, so: Ordering) {
    let Some(new) = number(value) else {
        return;
    };
    if held.as_ref().is_none_or(|old| compare(&new, old) == so) {
        *held = Some(new);
    }
}

fn date(
    held: &mut Option<Dated>,
    value: &Value,
    at_ms: i64,
    better: impl Fn(i64, i64) -> bool,
) -> isize {
    if held.as_ref().is_some_and(|old| !better(at_ms, old.at_ms)) {
        return 0;
    }
    let json = value.to_string();
    if json.len() > VALUE_BYTES_MAX {
        return 0;
    }
    let before = held.as_ref().map_or(0, Dated::held).cast_signed();
    let after = json.len().cast_signed();
    *held = Some(Dated {
        at_ms,
        json: json.into(),
    });
    after - before
}

impl Dated {
    fn held(&self) -> usize {
        self.json.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    /// What a function says of these values, one second apart.
    fn says(function: Function, values: &[Value]) -> Value {
        let mut cell = Cell::new(function);
        for (at_ms, value) in (0..).step_by(1000).zip(values) {
            cell.add(value, at_ms);
        }
        let text = serde_json::to_string(&cell).unwrap();
        assert_eq!(serde_json::from_str::<Cell>(&text).unwrap(), cell, "{text}");
        cell.value(0.5)
    }

    #[test]
    fn each_function() {
        let numbers = [json!(3), json!(-2), json!("8"), json!(true), json!("x")];
        for (function, value) in [
            (Function::Count, json!(5)),
            (Function::Sum, json!(9)),
            (Function::Mean, json!(3.0)),
            (Function::Min, json!(-2)),
            (Function::Max, json!(8)),
            (Function::First, json!(3)),
            (Function::Last, json!("x")),
            (Function::Distinct, json!(5)),
        ] {
            assert_eq!(says(function, &numbers), value, "{function:?}");
        }
        assert_eq!(says(Function::Sum, &[json!(1), json!(0.5)]), json!(1.5));
        let median = says(Function::Quantile, &numbers).as_f64().unwrap();
        assert!((median - 3.0).abs() < 0.05, "{median}");
    }

    #[test]
    fn nothing_seen_is_null() {
        for function in [
            Function::Sum,
            Function::Mean,
            Function::Min,
            Function::Max,
            Function::Quantile,
        ] {
            assert_eq!(says(function, &[json!("x")]), Value::Null, "{function:?}");
        }
        assert_eq!(says(Function::First, &[]), Value::Null);
        assert_eq!(says(Function::Distinct, &[]), json!(0));
    }

    #[test]
    fn whole_sums_are_exact_until_they_do_not_fit() {
        let large = json!(i64::MAX - 1);
        assert_eq!(
            says(Function::Sum, &[large.clone(), json!(1)]),
            json!(i64::MAX)
        );
        assert_eq!(
            says(Function::Sum, &[large.clone(), large]),
            json!(18_446_744_073_709_551_616.0)
        );
    }

    /// 2^53 is the last whole number up to which doubles tell all of them apart.
    #[test]
    fn the_least_and_the_greatest_are_exact() {
        let two_53 = 9_007_199_254_740_992_i64;
        let near = [json!(two_53 + 1), json!(two_53), json!(two_53 + 2)];
        let large = [json!(u64::MAX - 1), json!(u64::MAX), json!(i64::MIN)];
        let texts = [json!("18446744073709551614"), json!("18446744073709551615")];
        // 2^53 as a double lies between two whole numbers; 2^64 above all of them.
        let mixed = [json!(two_53 + 1), json!(9_007_199_254_740_992.0)];
        let above = [json!(u64::MAX), json!(18_446_744_073_709_551_616.0)];
        let below = [json!(-3), json!(-2.5), json!(2.5), json!(2)];
        for (values, least, greatest) in [
            (&near[..], &near[1], &near[2]),
            (&large, &large[2], &large[1]),
            (&texts, &json!(u64::MAX - 1), &json!(u64::MAX)),
            (&mixed, &mixed[1], &mixed[0]),
            (&above, &above[0], &above[1]),
            (&below, &below[0], &below[2]),
        ] {
            let mut turned = values.to_vec();
            turned.reverse();
            for values in [values, &turned] {
                assert_eq!(says(Function::Min, values), *least, "of {values:?}");
                assert_eq!(says(Function::Max, values), *greatest, "of {values:?}");
            }
        }
    }

    proptest! {
        /// Doubles that are known exactly: `n` times a power of two, and halves.
        #[test]
        fn a_mixed_comparison_is_that_of_the_numbers(n: i32, power in 0..32, near in -3_i64..=3) {
            let double = |n: f64| Number::from_f64(n).unwrap();
            let exact = i64::from(n) << power;
            for (whole, double, expected) in [
                (exact + near, double(f64::from(n) * 2_f64.powi(power)), near.cmp(&0)),
                (near, double(f64::from(n % 8) / 2.0), (2 * near).cmp(&i64::from(n % 8))),
            ] {
                prop_assert_eq!(compare(&whole.into(), &double), expected);
                prop_assert_eq!(compare(&double, &whole.into()), expected.reverse());
            }
        }
    }

    #[test]
    fn what_does_not_fit_a_double_or_a_state_stays_readable() {
        let large = [json!(1e308), json!("1e308"), json!(-1e308)];
        assert!(says(Function::Sum, &large).is_number());
        assert!(says(Function::Mean, &large[..2]).is_number());
        let deep = format!("{}1{}", "[".repeat(126), "]".repeat(126));
        let deep: Value = serde_json::from_str(&deep).unwrap();
        assert_eq!(says(Function::Last, &[json!(1), deep.clone()]), deep);
        let long = json!("x".repeat(VALUE_BYTES_MAX));
        assert_eq!(says(Function::Last, &[json!(1), long]), json!(1));
        let mut last = Cell::new(Function::Last);
        let changes: isize = (0..50)
            .map(|n| last.add(&json!("x".repeat(n * 7 % 50)), 0))
            .sum();
        assert_eq!(changes, last.held().cast_signed(), "memory goes down, too");
    }

    /// Not even one of them: a sum that has seen an infinity would never be a number again.
    #[test]
    fn what_is_no_number_of_json_counts_for_nothing() {
        let texts = ["NaN", "-nan", "inf", "-Infinity", "1e400", ""].map(Value::from);
        let mixed: Vec<Value> = texts.iter().cloned().chain([json!(3)]).collect();
        for (function, alone) in [
            (Function::Sum, json!(3)),
            (Function::Mean, json!(3.0)),
            (Function::Min, json!(3)),
            (Function::Max, json!(3)),
        ] {
            assert_eq!(says(function, &texts), Value::Null, "{function:?}");
            assert_eq!(says(function, &mixed), alone, "{function:?}");
        }
        assert_eq!(says(Function::Quantile, &texts), Value::Null);
        assert_eq!(
            says(Function::Quantile, &mixed),
            says(Function::Quantile, &[json!(3)])
        );
        assert_eq!(says(Function::Count, &texts), json!(6), "they are values");
    }

    #[test]
    fn first_and_last_go_by_time_not_by_coming() {
        let (mut first, mut last) = (Cell::new(Function::First), Cell::new(Function::Last));
        for (at_ms, value) in [(5, "b"), (1, "a"), (9, "c"), (9, "d"), (1, "z")] {
            first.add(&json!(value), at_ms);
            last.add(&json!(value), at_ms);
        }
        assert_eq!(
            (first.value(0.0), last.value(0.0)),
            (json!("a"), json!("d"))
        );
    }
}
