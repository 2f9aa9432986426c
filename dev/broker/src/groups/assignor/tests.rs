use super::*;

type Assignment = BTreeMap<String, PartitionSet>;

fn topic(number: u128) -> Uuid {
    Uuid::from_u128(number)
}

/// The assignment and the load of each member. Each member subscribes to this many of the first topics.
fn assign_topics(
    subscriptions: &[(&str, u128)],
    partitions: &[i32],
    previous: &Assignment,
) -> (Assignment, Vec<usize>) {
    let subscriptions = subscriptions
        .iter()
        .map(|(member, topics)| (*member, (0..*topics).map(topic).collect()))
        .collect();
    let topics = (0..).map(topic).zip(partitions.iter().copied()).collect();
    let assignment = assign(&subscriptions, &topics, previous);
    let loads = assignment.values().map(BTreeSet::len).collect();
    (assignment, loads)
}

#[test]
fn loads_differ_by_one_at_most() {
    for (members, partitions, loads) in [
        (1, 3, vec![3]),
        (2, 3, vec![2, 1]),
        (3, 2, vec![1, 1, 0]),
        (3, 7, vec![3, 2, 2]),
    ] {
        let subscriptions: Vec<_> = ["a", "b", "c"].into_iter().take(members).map(|id| (id, 1)).collect();
        assert_eq!(
            assign_topics(&subscriptions, &[partitions], &Assignment::new()).1,
            loads
        );
    }
}

#[test]
fn assignment_is_sticky() {
    let (one, _) = assign_topics(&[("a", 1)], &[4], &Assignment::new());
    let (two, _) = assign_topics(&[("a", 1), ("b", 1)], &[4], &one);
    let numbers = |member: &str| two[member].iter().map(|(_, index)| *index).collect::<Vec<_>>();
    assert_eq!((numbers("a"), numbers("b")), (vec![0, 1], vec![2, 3]));
    let (three, _) = assign_topics(&[("a", 1), ("b", 1), ("c", 1)], &[4], &two);
    assert!(["a", "b"].iter().all(|member| three[*member].is_subset(&two[*member])));
    // The remaining members keep their partitions when a member leaves.
    let (left, _) = assign_topics(&[("b", 1), ("c", 1)], &[4], &three);
    assert!(["b", "c"].iter().all(|member| three[*member].is_subset(&left[*member])));
}

#[test]
fn members_get_subscribed_topics_only() {
    let (assignment, loads) = assign_topics(&[("a", 1), ("b", 2), ("c", 0)], &[2, 3], &Assignment::new());
    assert_eq!(loads, [2, 3, 0]);
    assert!(assignment["a"].iter().all(|(id, _)| *id == topic(0)));
}
