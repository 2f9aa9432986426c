use super::*;

fn topic(number: u128) -> Uuid {
    Uuid::from_u128(number)
}

/// The sizes after a spread of topics with so many partitions over members that want so many of the first topics.
fn sizes(
    wants: &[(&str, u128)],
    counts: &[i32],
    had: &BTreeMap<String, Partitions>,
) -> (BTreeMap<String, Partitions>, Vec<usize>) {
    let wanted = wants
        .iter()
        .map(|(member, topics)| (*member, (0..*topics).map(topic).collect()))
        .collect();
    let topics = (0..).map(topic).zip(counts.iter().copied()).collect();
    let given = spread(&wanted, &topics, had);
    let sizes = given.values().map(BTreeSet::len).collect();
    (given, sizes)
}

#[test]
fn sizes_differ_by_one_at_the_most() {
    for (members, partitions, expected) in [
        (1, 3, vec![3]),
        (2, 3, vec![2, 1]),
        (3, 2, vec![1, 1, 0]),
        (3, 7, vec![3, 2, 2]),
    ] {
        let wants: Vec<_> = ["a", "b", "c"].into_iter().take(members).map(|id| (id, 1)).collect();
        assert_eq!(sizes(&wants, &[partitions], &BTreeMap::new()).1, expected);
    }
}

#[test]
fn members_keep_what_they_have_and_the_lower_numbers() {
    let (one, _) = sizes(&[("a", 1)], &[4], &BTreeMap::new());
    let (two, _) = sizes(&[("a", 1), ("b", 1)], &[4], &one);
    let numbers = |member: &str| two[member].iter().map(|(_, index)| *index).collect::<Vec<_>>();
    assert_eq!((numbers("a"), numbers("b")), (vec![0, 1], vec![2, 3]));
    let (three, _) = sizes(&[("a", 1), ("b", 1), ("c", 1)], &[4], &two);
    let kept = |member: &str| three[member].is_subset(&two[member]);
    assert!(kept("a") && kept("b"));
    // Who comes back finds the others as they were.
    let (again, _) = sizes(&[("b", 1), ("c", 1)], &[4], &three);
    assert!(three["b"].is_subset(&again["b"]) && three["c"].is_subset(&again["c"]));
}

#[test]
fn nobody_gets_what_they_do_not_want() {
    let (given, sizes) = sizes(&[("a", 1), ("b", 2), ("c", 0)], &[2, 3], &BTreeMap::new());
    assert_eq!(sizes, [2, 3, 0]);
    assert!(given["a"].iter().all(|(id, _)| *id == topic(0)));
}
