use super::*;

const RECORD: usize = 100;
const BATCH_BYTES: usize = 7_400;
const PER_BATCH: usize = BATCH_BYTES / RECORD;

/// An accumulator for one partition, with all connections connected and parked.
fn accumulator(connections: usize) -> Accumulator<usize> {
    let mut accumulator = disconnected(connections, 1 << 20);
    for connection in 0..connections {
        assert_eq!(accumulator.next_action(connection).0, Action::Park, "nothing is queued");
    }
    accumulator
}

/// An accumulator for one partition, with all connections disconnected.
fn disconnected(connections: usize, max_bytes: usize) -> Accumulator<usize> {
    let mut accumulator = Accumulator::new(connections, max_bytes);
    accumulator.set_batch_bytes(BATCH_BYTES);
    assert_eq!(accumulator.add_partition(0), 0..connections);
    accumulator
}

/// An accumulator for `COUNT` partitions with all primaries connected and parked, and the indices of the primaries.
fn partitions<const COUNT: usize>(max_connections: usize) -> (Accumulator<usize>, [usize; COUNT]) {
    let mut accumulator = Accumulator::new(max_connections, 1 << 20);
    accumulator.set_batch_bytes(BATCH_BYTES);
    let mut numbers = 0..;
    let primaries = [(); COUNT].map(|()| accumulator.add_partition(numbers.next().unwrap()).start);
    primaries
        .iter()
        .for_each(|connection| drop(accumulator.next_action(*connection)));
    (accumulator, primaries)
}

fn batch(action: Action<usize>) -> Option<Batch<usize>> {
    match action {
        Action::Send(batch) => Some(batch),
        Action::Linger | Action::Park | Action::Disconnect => None,
    }
}

fn entries(action: Action<usize>) -> Vec<usize> {
    batch(action).into_iter().flatten().map(|(_, entry)| entry).collect()
}

#[test]
fn idle_connection_sends_at_once() {
    let mut accumulator = accumulator(2);
    assert_eq!(accumulator.push(RECORD, 1).unwrap(), Some(0));
    assert_eq!(entries(accumulator.next_action(0).0), [1]);
}

#[test]
fn records_queued_during_a_batch_go_with_the_next_batch() {
    let mut accumulator = accumulator(2);
    accumulator.push(RECORD, 1).unwrap();
    accumulator.next_action(0);
    for entry in 2..5 {
        assert_eq!(
            accumulator.push(RECORD, entry).unwrap(),
            None,
            "less than a full batch is queued"
        );
    }
    assert_eq!(entries(accumulator.next_action(0).0), [2, 3, 4]);
}

#[test]
fn second_connection_is_woken_for_full_batches_only() {
    let mut accumulator = accumulator(2);
    accumulator.push(RECORD, 0).unwrap();
    accumulator.next_action(0);
    let woken: Vec<Wake> = (0..=PER_BATCH)
        .map(|entry| accumulator.push(RECORD, entry).unwrap())
        .collect();
    assert_eq!(woken.iter().flatten().collect::<Vec<_>>(), [&1]);
    assert_eq!(
        entries(accumulator.next_action(1).0),
        (0..PER_BATCH).collect::<Vec<_>>()
    );
    assert_eq!(
        accumulator.next_action(1).0,
        Action::Park,
        "the rest is less than a full batch"
    );
    assert_eq!(entries(accumulator.next_action(0).0), [PER_BATCH]);
}

#[test]
fn burst_wakes_connections_one_after_another() {
    let mut accumulator = accumulator(3);
    let woken: Vec<usize> = (0..3 * PER_BATCH)
        .filter_map(|entry| accumulator.push(RECORD, entry).unwrap())
        .collect();
    assert_eq!(woken, [0], "the woken connection wakes the next");
    let (first, wake) = accumulator.next_action(0);
    assert_eq!((entries(first).len(), wake), (PER_BATCH, Some(1)));
    let (second, wake) = accumulator.next_action(1);
    assert_eq!((entries(second).len(), wake), (PER_BATCH, Some(2)));
    assert_eq!(entries(accumulator.next_action(2).0).len(), PER_BATCH);
}

#[test]
fn batch_size_limit_is_exceeded_by_a_single_record_only() {
    let mut accumulator = accumulator(1);
    accumulator.push(RECORD, 1).unwrap();
    accumulator.push(BATCH_BYTES + 1, 2).unwrap();
    accumulator.push(RECORD, 3).unwrap();
    assert_eq!(entries(accumulator.next_action(0).0), [1]);
    assert_eq!(entries(accumulator.next_action(0).0), [2]);
    assert_eq!(entries(accumulator.next_action(0).0), [3]);
}

#[test]
fn linger_ends_at_the_batch_target() {
    let mut accumulator = accumulator(2);
    accumulator.set_batch_target(3);
    assert_eq!(accumulator.push(RECORD, 1).unwrap(), Some(0));
    assert_eq!(accumulator.next_action(0), (Action::Linger, None));
    assert_eq!(accumulator.push(RECORD, 2).unwrap(), None);
    assert_eq!(accumulator.push(RECORD, 3).unwrap(), Some(0));
    assert_eq!(entries(accumulator.next_action(0).0), [1, 2, 3]);
}

#[test]
fn linger_ends_when_the_connection_asks_again() {
    let mut accumulator = accumulator(2);
    accumulator.set_batch_target(3);
    accumulator.push(RECORD, 1).unwrap();
    assert_eq!(accumulator.next_action(0).0, Action::Linger);
    assert_eq!(entries(accumulator.next_action(0).0), [1], "the linger is over");
    accumulator.push(RECORD, 2).unwrap();
    assert_eq!(
        accumulator.next_action(0).0,
        Action::Linger,
        "the next batch lingers too"
    );
}

#[test]
fn linger_ends_with_a_full_batch_or_close() {
    let mut accumulator = accumulator(2);
    accumulator.set_batch_target(usize::MAX);
    accumulator.push(RECORD, 0).unwrap();
    assert_eq!(accumulator.next_action(0).0, Action::Linger);
    for entry in 1..PER_BATCH - 1 {
        assert_eq!(accumulator.push(RECORD, entry).unwrap(), None, "less than a full batch");
    }
    assert_eq!(accumulator.push(RECORD, PER_BATCH - 1).unwrap(), Some(0));
    assert_eq!(entries(accumulator.next_action(0).0).len(), PER_BATCH);
    accumulator.push(RECORD, PER_BATCH).unwrap();
    accumulator.close();
    assert_eq!(entries(accumulator.next_action(0).0), [PER_BATCH]);
}

#[test]
fn next_partition_lingers_after_a_batch_of_the_first() {
    let (mut accumulator, primaries) = partitions::<2>(2);
    accumulator.push(RECORD, 0).unwrap();
    accumulator.next_action(primaries[0]);
    accumulator.push(RECORD, 1).unwrap();
    accumulator.set_batch_target(2);
    assert_eq!(
        accumulator.next_action(primaries[0]),
        (Action::Park, Some(primaries[1]))
    );
    assert_eq!(accumulator.next_action(primaries[1]), (Action::Linger, None));
    assert_eq!(accumulator.push(RECORD, 2).unwrap(), Some(primaries[1]));
    assert_eq!(entries(accumulator.next_action(primaries[1]).0), [1, 2]);
}

#[test]
fn full_queue_returns_the_entry() {
    let mut accumulator = disconnected(1, 250);
    assert!(accumulator.push(300, 1).is_ok(), "alone, any entry fits");
    assert_eq!(accumulator.push(1, 2).unwrap_err().0, 2);
    accumulator.next_action(0);
    assert!(accumulator.push(125, 3).is_ok());
    assert!(accumulator.push(125, 4).is_ok());
    assert!(accumulator.push(1, 5).is_err());
}

#[test]
fn requeued_batch_is_sent_next_in_its_order() {
    let mut accumulator = accumulator(1);
    for entry in 0..3 {
        accumulator.push(RECORD, entry).unwrap();
    }
    let batch = batch(accumulator.next_action(0).0).unwrap();
    accumulator.push(RECORD, 3).unwrap();
    accumulator.on_disconnect(0, batch);
    assert_eq!(entries(accumulator.next_action(0).0), [0, 1, 2, 3]);
}

#[test]
fn requeued_batch_wakes_the_idle_connection() {
    let mut accumulator = accumulator(2);
    accumulator.push(RECORD, 0).unwrap();
    accumulator.next_action(0);
    for entry in 1..=PER_BATCH {
        accumulator.push(RECORD, entry).unwrap();
    }
    let batch = batch(accumulator.next_action(1).0).unwrap();
    accumulator.next_action(0);
    accumulator.next_action(0);
    assert_eq!(accumulator.on_disconnect(1, batch), Some(0));
    assert_eq!(entries(accumulator.next_action(0).0).len(), PER_BATCH);
    assert!(!accumulator.should_connect(1).0, "nothing is left for it");
}

#[test]
fn other_connection_sends_while_the_primary_is_disconnected() {
    let mut accumulator = accumulator(2);
    accumulator.push(RECORD, 0).unwrap();
    accumulator.next_action(0);
    accumulator.on_disconnect(0, Vec::new());
    assert_eq!(accumulator.should_connect(0), (true, None));
    assert_eq!(accumulator.push(RECORD, 1).unwrap(), Some(1));
    assert_eq!(entries(accumulator.next_action(1).0), [1]);
    assert!(accumulator.is_any_connected());
    assert_eq!(accumulator.next_action(0).0, Action::Park, "the primary is back");
    accumulator.push(RECORD, 2).unwrap();
    assert_eq!(entries(accumulator.next_action(0).0), [2]);
}

#[test]
fn any_connected_is_false_only_without_all_connections() {
    let mut accumulator = accumulator(2);
    for connection in [0, 1] {
        accumulator.push(RECORD, connection).unwrap();
        accumulator.next_action(connection);
        accumulator.push(RECORD, 10).unwrap();
        assert!(accumulator.is_any_connected());
        accumulator.on_disconnect(connection, Vec::new());
    }
    assert!(!accumulator.is_any_connected());
    assert_eq!(accumulator.drain_while(|_| true), [10]);
    assert!(accumulator.is_idle());
}

#[test]
fn closed_queue_is_drained_by_any_connection_and_rejects_entries() {
    let mut accumulator = accumulator(2);
    accumulator.push(RECORD, 1).unwrap();
    accumulator.close();
    assert!(accumulator.push(RECORD, 2).is_err());
    assert!(!accumulator.is_idle());
    assert_eq!(entries(accumulator.next_action(1).0), [1]);
    assert!(!accumulator.is_idle(), "a connection is sending");
    accumulator.next_action(1);
    accumulator.next_action(0);
    assert!(accumulator.is_idle());
}

#[test]
fn second_connection_connects_for_a_full_batch_only() {
    let mut accumulator = disconnected(2, 1 << 20);
    assert_eq!(accumulator.should_connect(1), (false, None));
    assert_eq!(
        accumulator.should_connect(0),
        (true, None),
        "the primary always connects"
    );
    accumulator.push(RECORD, 0).unwrap();
    assert_eq!(entries(accumulator.next_action(0).0), [0]);
    let woken = (0..PER_BATCH).find_map(|entry| accumulator.push(RECORD, entry).unwrap());
    assert_eq!(woken, Some(1));
    assert_eq!(accumulator.should_connect(1), (true, None));
}

#[test]
fn only_the_primary_connects_while_all_are_disconnected() {
    let mut accumulator = disconnected(2, 1 << 20);
    accumulator.should_connect(0);
    accumulator.should_connect(1);
    let woken = (0..3 * PER_BATCH).find_map(|entry| accumulator.push(RECORD, entry).unwrap());
    assert_eq!(woken, None);
}

#[test]
fn batches_go_round_robin_over_the_partitions() {
    let (mut accumulator, primaries) = partitions::<3>(4);
    for (entry, connection) in primaries.into_iter().cycle().take(7).enumerate() {
        assert_eq!(accumulator.push(RECORD, entry).unwrap(), Some(connection));
        assert_eq!(entries(accumulator.next_action(connection).0), [entry]);
        assert_eq!(accumulator.next_action(connection), (Action::Park, None));
    }
}

#[test]
fn records_queued_during_a_batch_go_to_the_next_partition_as_one_batch() {
    let (mut accumulator, primaries) = partitions::<2>(4);
    accumulator.push(RECORD, 0).unwrap();
    accumulator.next_action(primaries[0]);
    assert_eq!(accumulator.push(RECORD, 1).unwrap(), None, "a batch is in flight");
    assert_eq!(accumulator.push(RECORD, 2).unwrap(), None, "a batch is in flight");
    assert_eq!(
        accumulator.next_action(primaries[0]),
        (Action::Park, Some(primaries[1]))
    );
    assert_eq!(entries(accumulator.next_action(primaries[1]).0), [1, 2]);
}

#[test]
fn disconnected_partition_is_skipped() {
    let (mut accumulator, primaries) = partitions::<2>(2);
    accumulator.on_disconnect(primaries[0], Vec::new());
    for entry in 0..3 {
        assert_eq!(accumulator.push(RECORD, entry).unwrap(), Some(primaries[1]));
        assert_eq!(entries(accumulator.next_action(primaries[1]).0), [entry]);
        assert_eq!(accumulator.next_action(primaries[1]), (Action::Park, None));
    }
}

#[test]
fn connection_limit_is_shared_equally_with_one_per_partition() {
    for (partitions, allowed) in [(1, 4), (2, 4), (3, 3), (4, 4), (6, 6)] {
        let mut accumulator = Accumulator::<usize>::new(4, 1 << 20);
        for partition in 0..partitions {
            accumulator.add_partition(partition);
        }
        let connections = 0..accumulator.connections.len();
        assert_eq!(
            connections
                .filter(|connection| accumulator.is_within_limit(*connection))
                .count(),
            allowed,
            "{partitions}"
        );
    }
}

#[test]
fn connection_over_the_limit_disconnects_after_its_batch() {
    let mut accumulator = accumulator(2);
    for entry in 0..3 * PER_BATCH {
        accumulator.push(RECORD, entry).unwrap();
    }
    accumulator.next_action(0);
    accumulator.next_action(1);
    accumulator.set_max_connections(1);
    assert_eq!(accumulator.next_action(1).0, Action::Disconnect);
    assert_eq!(accumulator.should_connect(1), (false, None));
    assert_eq!(entries(accumulator.next_action(0).0).len(), PER_BATCH);
}

#[test]
fn removed_partition_sends_nothing_more() {
    let (mut accumulator, [first, second]) = partitions(2);
    accumulator.push(RECORD, 1).unwrap();
    assert_eq!(entries(accumulator.next_action(first).0), [1]);
    accumulator.push(RECORD, 2).unwrap();
    accumulator.remove_partition(0);
    assert!(!accumulator.is_idle(), "its batch is in flight");
    assert_eq!(entries(accumulator.next_action(second).0), [2]);
    // What failed in it goes to the other partition.
    assert_eq!(accumulator.on_disconnect(first, vec![(RECORD, 1)]), None);
    assert_eq!(accumulator.should_connect(first), (false, None));
    assert!(accumulator.has_ended(first) && !accumulator.has_ended(second));
    assert_eq!(entries(accumulator.next_action(second).0), [1]);
    assert_eq!(accumulator.next_action(first), (Action::Disconnect, None));
    assert!(accumulator.is_any_primary_connected());
}

#[test]
fn removed_partition_gives_its_connections_to_the_others() {
    let mut accumulator = Accumulator::<usize>::new(4, 1 << 20);
    assert_eq!(accumulator.add_partition(0), 0..4);
    accumulator.add_partition(1);
    assert!(!accumulator.is_within_limit(3));
    accumulator.remove_partition(1);
    assert!(accumulator.is_within_limit(3));
    // The topic has it again.
    let again = accumulator.add_partition(1);
    assert!(accumulator.is_within_limit(again.start) && !accumulator.is_within_limit(3));
}

mod model {
    //! Runs random steps of connections: no entry is lost, sent twice, or left queued.

    use proptest::prelude::*;

    use super::*;

    const PARTITIONS: i32 = 2;
    const MAX_PRODUCER_CONNECTIONS: usize = 6;

    #[derive(Debug, Clone, Copy)]
    enum Event {
        Push {
            bytes: usize,
        },
        /// A connection finishes what it does.
        Finish {
            connection: usize,
            ok: bool,
        },
        MaxConnections {
            connections: usize,
        },
        BatchTarget {
            entries: usize,
        },
        /// The last partition is removed.
        RemovePartition,
    }

    #[derive(Debug)]
    enum Activity {
        Parked { connected: bool },
        Lingering,
        Connecting,
        Sending(Batch<usize>),
    }

    fn events() -> impl Strategy<Value = Vec<Event>> {
        let push = (1..BATCH_BYTES).prop_map(|bytes| Event::Push { bytes });
        let finish = (0..MAX_PRODUCER_CONNECTIONS, prop::bool::weighted(0.7))
            .prop_map(|(connection, ok)| Event::Finish { connection, ok });
        let max_connections =
            (1..=MAX_PRODUCER_CONNECTIONS).prop_map(|connections| Event::MaxConnections { connections });
        let batch_target = (0..5_usize).prop_map(|entries| Event::BatchTarget { entries });
        prop::collection::vec(
            prop_oneof![
                16 => push,
                16 => finish,
                2 => max_connections,
                2 => batch_target,
                1 => Just(Event::RemovePartition),
            ],
            0..200,
        )
    }

    struct World {
        accumulator: Accumulator<usize>,
        connections: Vec<Activity>,
        sent: Vec<usize>,
    }

    impl World {
        fn ask(&mut self, connection: usize, connected: bool) {
            let wake = if connected {
                let (action, wake) = self.accumulator.next_action(connection);
                self.connections[connection] = match action {
                    Action::Send(batch) => Activity::Sending(batch),
                    Action::Linger => Activity::Lingering,
                    Action::Park => Activity::Parked { connected },
                    Action::Disconnect => Activity::Parked { connected: false },
                };
                wake
            } else {
                let (should_connect, wake) = self.accumulator.should_connect(connection);
                self.connections[connection] = if should_connect {
                    Activity::Connecting
                } else {
                    Activity::Parked { connected }
                };
                wake
            };
            self.wake(wake);
        }

        fn wake(&mut self, wake: Wake) {
            if let Some(connection) = wake {
                assert!(
                    self.try_wake(connection),
                    "connection {connection} was woken while {:?}",
                    self.connections[connection]
                );
            }
        }

        fn wake_all(&mut self) {
            for connection in 0..self.connections.len() {
                self.try_wake(connection);
            }
        }

        /// Lets a parked or lingering connection ask for its next action.
        fn try_wake(&mut self, connection: usize) -> bool {
            let connected = match self.connections[connection] {
                Activity::Parked { connected } => connected,
                Activity::Lingering => true,
                Activity::Connecting | Activity::Sending(_) => return false,
            };
            self.ask(connection, connected);
            true
        }

        fn finish(&mut self, connection: usize, ok: bool) {
            match std::mem::replace(&mut self.connections[connection], Activity::Connecting) {
                parked @ Activity::Parked { .. } => self.connections[connection] = parked,
                Activity::Lingering => self.ask(connection, true),
                Activity::Connecting => self.ask(connection, ok),
                Activity::Sending(batch) if ok => {
                    self.sent.extend(batch.into_iter().map(|(_, entry)| entry));
                    self.ask(connection, true);
                }
                Activity::Sending(batch) => {
                    let wake = self.accumulator.on_disconnect(connection, batch);
                    self.wake(wake);
                    self.ask(connection, false);
                }
            }
        }
    }

    proptest! {
        #[test]
        fn every_entry_is_sent_exactly_once(events in events()) {
            let mut accumulator = Accumulator::new(MAX_PRODUCER_CONNECTIONS, usize::MAX);
            accumulator.set_batch_bytes(BATCH_BYTES);
            for partition in 0..PARTITIONS {
                accumulator.add_partition(partition);
            }
            let connections = accumulator.connections.len();
            let mut world = World {
                accumulator,
                connections: (0..connections).map(|_| Activity::Connecting).collect(),
                sent: Vec::new(),
            };
            (0..connections).for_each(|connection| world.ask(connection, false));
            let mut pushed = 0;
            for event in events {
                match event {
                    Event::Push { bytes } => {
                        let wake = world.accumulator.push(bytes, pushed).unwrap();
                        pushed += 1;
                        world.wake(wake);
                    }
                    Event::Finish { connection, ok } => world.finish(connection % connections, ok),
                    Event::MaxConnections { connections } => {
                        world.accumulator.set_max_connections(connections);
                        world.wake_all();
                    }
                    Event::BatchTarget { entries } => world.accumulator.set_batch_target(entries),
                    Event::RemovePartition => {
                        world.accumulator.remove_partition(PARTITIONS - 1);
                        world.wake_all();
                    }
                }
            }
            // From here on nothing fails and nothing is pushed. At worst one connection connects, then lingers and sends entry
            // by entry.
            for _ in 0..2 * (pushed + 1) {
                (0..connections).for_each(|connection| world.finish(connection, true));
            }
            world.sent.sort_unstable();
            prop_assert_eq!(world.sent, (0..pushed).collect::<Vec<_>>());
            prop_assert!(world.accumulator.is_idle());
        }
    }
}
