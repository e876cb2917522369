//! Which objects are put together.

use crate::name::ObjectName;

/// Most objects that one stands for: bounds its account.
const COUNT_MAX: usize = 1000;

/// A small object that may be replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Its name.
    pub name: ObjectName,
    /// Its bytes.
    pub size: u64,
}

impl Candidate {
    /// Whether an object is small enough to be worth it.
    pub fn is_small(size: u64, target: u64) -> bool {
        size <= target / 2
    }
}

/// Puts the objects of one path of one partition into groups of up to `target` bytes, in the order of
/// their offsets. `large`: starts of objects that stay as they are; no group reaches over one, so that
/// the ranges in names never overlap.
pub fn groups(mut candidates: Vec<Candidate>, large: &[u64], target: u64) -> Vec<Vec<Candidate>> {
    candidates.sort_by_key(|one| (one.name.start, one.name.end, one.name.quiet_ms, one.name.k));
    let mut groups: Vec<Vec<Candidate>> = Vec::new();
    let mut group: Vec<Candidate> = Vec::new();
    let mut bytes = 0;
    for candidate in candidates {
        let breaks = group.last().is_some_and(|last| {
            let between = last.name.start..candidate.name.start;
            bytes + candidate.size > target
                || group.len() >= COUNT_MAX
                || last.name.extension != candidate.name.extension
                || large.iter().any(|start| between.contains(start))
        });
        if breaks {
            groups.push(std::mem::take(&mut group));
            bytes = 0;
        }
        bytes += candidate.size;
        group.push(candidate);
    }
    groups.push(group);
    // What covers no offset, alone, has no range that could be named.
    let range = |group: &[Candidate]| Some(group.first()?.name.start..group.last()?.name.end);
    groups.retain(|group| group.len() > 1 && range(group).is_some_and(|range| !range.is_empty()));
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(start: u64, size: u64, extension: &str) -> Candidate {
        let name = ObjectName {
            path: "p".into(),
            topic: "t".into(),
            partition: 0,
            start,
            end: start + 10,
            quiet_ms: None,
            k: 1,
            n: 2,
            extension: extension.into(),
        };
        Candidate { name, size }
    }

    fn starts(groups: &[Vec<Candidate>]) -> Vec<Vec<u64>> {
        let starts = |group: &Vec<Candidate>| group.iter().map(|c| c.name.start).collect();
        groups.iter().map(starts).collect()
    }

    #[test]
    fn groups_are_in_order_up_to_the_target_and_of_one_kind() {
        let zst = |start, size| candidate(start, size, "ndjson.zst");
        let all = vec![
            zst(20, 40),
            zst(0, 40),
            zst(10, 20),
            zst(30, 50),
            zst(40, 9),
        ];
        let found = groups(all.clone(), &[], 100);
        assert_eq!(starts(&found), [vec![0, 10, 20], vec![30, 40]]);
        // A large one lies between 10 and 20.
        let found = groups(all.clone(), &[15], 1000);
        assert_eq!(starts(&found), [vec![0, 10], vec![20, 30, 40]]);
        let mut mixed = all;
        mixed.push(candidate(50, 1, "csv.gz"));
        mixed.push(candidate(60, 1, "csv.gz"));
        let found = groups(mixed, &[], 1000);
        assert_eq!(starts(&found), [vec![0, 10, 20, 30, 40], vec![50, 60]]);
        assert!(groups(vec![zst(0, 1)], &[], 9).is_empty());
        assert!(Candidate::is_small(50, 100) && !Candidate::is_small(51, 100));
        let many = (0..2001).map(|n| zst(n * 10, 0)).collect();
        let found = groups(many, &[], 1000);
        assert_eq!(found.iter().map(Vec::len).collect::<Vec<_>>(), [1000, 1000]);
    }
}
