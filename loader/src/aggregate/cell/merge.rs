//! Two parts of one window, put together: what each has seen of records that the other has not.
//!
//! For every function the result is that of all records at once, in whatever order and grouping the parts are put
//! together: whole sums, counts, the least and the greatest exactly, sketches to the same bytes. Two things go by the
//! order, as they do where records come one by one: which of two values with one time is the first or the last, and
//! how sums of fractions are rounded.

use std::cmp::Ordering;

use super::{Cell, Dated, Sum, compare};

impl Cell {
    /// Takes in what `later` has seen: records that came behind those of this one. Of another function it takes
    /// nothing.
    pub(in crate::aggregate) fn merge(&mut self, later: Self) {
        match (self, later) {
            (Self::Count(n), Self::Count(more)) => *n = n.saturating_add(more),
            (Self::Sum(sum), Self::Sum(more)) | (Self::Mean(sum), Self::Mean(more)) => {
                sum.merge(more);
            }
            (Self::Min(held), Self::Min(Some(new))) => {
                replace(held, new, |new, old| compare(new, old) == Ordering::Less);
            }
            (Self::Max(held), Self::Max(Some(new))) => {
                replace(held, new, |new, old| compare(new, old) == Ordering::Greater);
            }
            (Self::First(held), Self::First(Some(new))) => {
                replace(held, new, |new: &Dated, old| new.at_ms < old.at_ms);
            }
            (Self::Last(held), Self::Last(Some(new))) => {
                replace(held, new, |new: &Dated, old| new.at_ms >= old.at_ms);
            }
            (Self::Distinct(distinct), Self::Distinct(more)) => distinct.merge(more),
            (Self::Quantile(quantiles), Self::Quantile(more)) => quantiles.merge(more),
            _ => {}
        }
    }
}

impl Sum {
    fn merge(&mut self, later: Self) {
        self.n = self.n.saturating_add(later.n);
        self.mixed |= later.mixed;
        let mut rest = self.rest + later.rest;
        match self.whole.checked_add(later.whole) {
            Some(whole) => self.whole = whole,
            None => {
                self.mixed = true;
                #[expect(clippy::cast_precision_loss, reason = "as where it is added")]
                let whole = later.whole as f64;
                rest += whole;
            }
        }
        self.rest = rest.clamp(f64::MIN, f64::MAX);
    }
}

fn replace<T>(held: &mut Option<T>, new: T, better: impl Fn(&T, &T) -> bool) {
    if held.as_ref().is_none_or(|old| better(&new, old)) {
        *held = Some(new);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::aggregate::Function;

    const FUNCTIONS: [Function; 9] = [
        Function::Count,
        Function::Sum,
        Function::Mean,
        Function::Min,
        Function::Max,
        Function::First,
        Function::Last,
        Function::Distinct,
        Function::Quantile,
    ];

    fn of(function: Function, records: &[(Value, i64)]) -> Cell {
        let mut cell = Cell::new(function);
        for (value, at_ms) in records {
            cell.add(value, *at_ms);
        }
        cell
    }

    fn put_together(parts: impl IntoIterator<Item = Cell>) -> Cell {
        let mut parts = parts.into_iter();
        let mut all = parts.next().unwrap();
        parts.for_each(|part| all.merge(part));
        all
    }

    /// Whole numbers and halves, which doubles add up exactly, and texts beside them.
    fn values() -> impl Strategy<Value = Value> {
        prop_oneof![
            (-1_000_000_i64..1_000_000).prop_map(Value::from),
            (-1_000_i32..1_000).prop_map(|n| json!(f64::from(n) / 2.0)),
            any::<u32>().prop_map(Value::from),
            "[a-z]{0,3}".prop_map(Value::from),
            Just(json!([1])),
        ]
    }

    proptest! {
        /// Times are all different, so that there is one first and one last.
        #[test]
        fn parts_put_together_say_what_all_say(
            values in prop::collection::vec(values(), 0..60), cuts in prop::collection::vec(0_usize..60, 3),
        ) {
            let records: Vec<(Value, i64)> = values.into_iter().zip((0..).map(|n: i64| n * 7919 % 1000)).collect();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(records.len())).collect();
            cuts.sort_unstable();
            let parts = [&records[..cuts[0]], &records[cuts[0]..cuts[1]], &records[cuts[1]..cuts[2]], &records[cuts[2]..]];
            for function in FUNCTIONS {
                let all = of(function, &records);
                let part = parts.map(|part| of(function, part));
                let [a, b, c, d] = part.clone();
                let mut turned = part;
                turned.reverse();
                let said = all.value(0.5);
                for (how, made) in [
                    ("in order", put_together([a.clone(), b.clone(), c.clone(), d.clone()])),
                    ("in pairs", put_together([put_together([a, b]), put_together([c, d])])),
                    ("turned", put_together(turned)),
                ] {
                    prop_assert_eq!(made.value(0.5), said.clone(), "{:?} {}", function, how);
                    if matches!(function, Function::Distinct | Function::Quantile | Function::Count) {
                        prop_assert_eq!(&made, &all, "{:?} {}", function, how);
                    }
                }
            }
        }
    }

    #[test]
    fn sums_of_parts_that_do_not_fit_stay_readable() {
        let large = of(Function::Sum, &[(json!(i64::MAX), 0)]);
        let both = put_together([large.clone(), large]);
        assert_eq!(both.value(0.0), json!(18_446_744_073_709_551_616.0));
        let huge = of(Function::Sum, &[(json!(1e308), 0), (json!(7e307), 0)]);
        let both = put_together([huge.clone(), huge]);
        assert_eq!(both.value(0.0), json!(f64::MAX));
        let text = serde_json::to_string(&both).unwrap();
        assert_eq!(serde_json::from_str::<Cell>(&text).unwrap(), both);
    }

    #[test]
    fn of_values_with_one_time_the_later_part_has_the_last() {
        for (function, says) in [(Function::First, "a"), (Function::Last, "b")] {
            let parts = ["a", "b"].map(|text| of(function, &[(json!(text), 5)]));
            assert_eq!(put_together(parts).value(0.0), json!(says));
        }
    }

    #[test]
    fn another_functions_part_is_not_taken() {
        let mut count = of(Function::Count, &[(json!(1), 0)]);
        count.merge(of(Function::Min, &[(json!(1), 0)]));
        assert_eq!(count.value(0.0), json!(1));
    }
}
