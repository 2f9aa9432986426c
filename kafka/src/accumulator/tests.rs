use super::*;

const RECORD: usize = 100;
const PER_FRAME: usize = SMALL_BATCH_BYTES / RECORD;

/// A accumulator whose connections all have connections and nothing to do.
fn accumulator(connections: usize) -> Accumulator<usize> {
    let mut accumulator = disconnected(connections, 1 << 20);
    for connection in 0..connections {
        assert_eq!(
            accumulator.take(connection).0,
            Action::Park,
            "an empty accumulator has no frame"
        );
    }
    accumulator
}

/// A accumulator for one partition whose connections have no connection yet.
fn disconnected(connections: usize, max_bytes: usize) -> Accumulator<usize> {
    let mut accumulator = Accumulator::new(connections, max_bytes);
    assert_eq!(accumulator.add_partition(), 0..connections);
    accumulator
}

/// A accumulator for so many partitions whose primary connections have connections and nothing to do, and these connections.
fn partitions<const COUNT: usize>(max_connections: usize) -> (Accumulator<usize>, [usize; COUNT]) {
    let mut accumulator = Accumulator::new(max_connections, 1 << 20);
    let primaries = [(); COUNT].map(|()| accumulator.add_partition().start);
    primaries
        .iter()
        .for_each(|connection| drop(accumulator.take(*connection)));
    (accumulator, primaries)
}

fn frame(turn: Action<usize>) -> Option<Vec<(usize, usize)>> {
    match turn {
        Action::Send(frame) => Some(frame),
        Action::Linger | Action::Park | Action::Disconnect => None,
    }
}

fn entries(turn: Action<usize>) -> Vec<usize> {
    frame(turn).into_iter().flatten().map(|(_, it)| it).collect()
}

#[test]
fn an_idle_outbox_sends_at_once() {
    let mut accumulator = accumulator(2);
    assert_eq!(accumulator.push(RECORD, 1).unwrap(), Some(0));
    assert_eq!(entries(accumulator.take(0).0), [1]);
}

#[test]
fn what_arrives_meanwhile_goes_with_the_next_frame() {
    let mut accumulator = accumulator(2);
    accumulator.push(RECORD, 1).unwrap();
    accumulator.take(0);
    for entry in 2..5 {
        assert_eq!(
            accumulator.push(RECORD, entry).unwrap(),
            None,
            "less than a frame waits"
        );
    }
    assert_eq!(entries(accumulator.take(0).0), [2, 3, 4]);
}

#[test]
fn a_second_lane_is_called_for_whole_frames_only() {
    let mut accumulator = accumulator(2);
    accumulator.push(RECORD, 0).unwrap();
    accumulator.take(0);
    let called: Vec<Wake> = (0..=PER_FRAME)
        .map(|entry| accumulator.push(RECORD, entry).unwrap())
        .collect();
    assert_eq!(called.iter().flatten().collect::<Vec<_>>(), [&1]);
    assert_eq!(entries(accumulator.take(1).0), (0..PER_FRAME).collect::<Vec<_>>());
    assert_eq!(accumulator.take(1).0, Action::Park, "the rest is less than a frame");
    assert_eq!(entries(accumulator.take(0).0), [PER_FRAME]);
}

#[test]
fn a_burst_calls_lane_after_lane() {
    let mut accumulator = accumulator(3);
    let called: Vec<usize> = (0..3 * PER_FRAME)
        .filter_map(|entry| accumulator.push(RECORD, entry).unwrap())
        .collect();
    assert_eq!(called, [0], "the called connection calls the next");
    let (first, wake) = accumulator.take(0);
    assert_eq!((entries(first).len(), wake), (PER_FRAME, Some(1)));
    let (second, wake) = accumulator.take(1);
    assert_eq!((entries(second).len(), wake), (PER_FRAME, Some(2)));
    assert_eq!(entries(accumulator.take(2).0).len(), PER_FRAME);
}

#[test]
fn no_frame_is_larger_than_the_limit_but_for_a_single_record() {
    let mut accumulator = accumulator(1);
    accumulator.push(RECORD, 1).unwrap();
    accumulator.push(SMALL_BATCH_BYTES + 1, 2).unwrap();
    accumulator.push(RECORD, 3).unwrap();
    assert_eq!(entries(accumulator.take(0).0), [1]);
    assert_eq!(entries(accumulator.take(0).0), [2]);
    assert_eq!(entries(accumulator.take(0).0), [3]);
}

#[test]
fn a_lane_gathers_until_there_is_enough() {
    let mut accumulator = accumulator(2);
    accumulator.set_batch_target(3);
    assert_eq!(accumulator.push(RECORD, 1).unwrap(), Some(0));
    assert_eq!(accumulator.take(0), (Action::Linger, None));
    assert_eq!(accumulator.push(RECORD, 2).unwrap(), None);
    assert_eq!(accumulator.push(RECORD, 3).unwrap(), Some(0));
    assert_eq!(entries(accumulator.take(0).0), [1, 2, 3]);
}

#[test]
fn a_lane_gathers_no_longer_than_a_moment() {
    let mut accumulator = accumulator(2);
    accumulator.set_batch_target(3);
    accumulator.push(RECORD, 1).unwrap();
    assert_eq!(accumulator.take(0).0, Action::Linger);
    assert_eq!(entries(accumulator.take(0).0), [1], "it asks again");
    accumulator.push(RECORD, 2).unwrap();
    assert_eq!(accumulator.take(0).0, Action::Linger, "the next frame, too");
}

#[test]
fn a_whole_frame_is_enough_and_so_is_the_end() {
    let mut accumulator = accumulator(2);
    accumulator.set_batch_target(usize::MAX);
    accumulator.push(RECORD, 0).unwrap();
    assert_eq!(accumulator.take(0).0, Action::Linger);
    for entry in 1..PER_FRAME - 1 {
        assert_eq!(accumulator.push(RECORD, entry).unwrap(), None, "less than a frame");
    }
    assert_eq!(accumulator.push(RECORD, PER_FRAME - 1).unwrap(), Some(0));
    assert_eq!(entries(accumulator.take(0).0).len(), PER_FRAME);
    accumulator.push(RECORD, PER_FRAME).unwrap();
    accumulator.close();
    assert_eq!(entries(accumulator.take(0).0), [PER_FRAME]);
}

#[test]
fn the_next_partition_gathers_while_a_frame_is_under_way() {
    let (mut accumulator, primaries) = partitions::<2>(2);
    accumulator.push(RECORD, 0).unwrap();
    accumulator.take(primaries[0]);
    accumulator.push(RECORD, 1).unwrap();
    accumulator.set_batch_target(2);
    assert_eq!(accumulator.take(primaries[0]), (Action::Park, Some(primaries[1])));
    assert_eq!(accumulator.take(primaries[1]), (Action::Linger, None));
    assert_eq!(accumulator.push(RECORD, 2).unwrap(), Some(primaries[1]));
    assert_eq!(entries(accumulator.take(primaries[1]).0), [1, 2]);
}

#[test]
fn a_full_queue_gives_the_entry_back() {
    let mut accumulator = disconnected(1, 250);
    assert!(accumulator.push(300, 1).is_ok(), "alone, any entry fits");
    assert_eq!(accumulator.push(1, 2).unwrap_err().0, 2);
    accumulator.take(0);
    assert!(accumulator.push(125, 3).is_ok());
    assert!(accumulator.push(125, 4).is_ok());
    assert!(accumulator.push(1, 5).is_err());
}

#[test]
fn a_frame_that_is_to_be_sent_again_is_the_next_one_in_its_old_order() {
    let mut accumulator = accumulator(1);
    for entry in 0..3 {
        accumulator.push(RECORD, entry).unwrap();
    }
    let frame = frame(accumulator.take(0).0).unwrap();
    accumulator.push(RECORD, 3).unwrap();
    accumulator.lose(0, frame);
    assert_eq!(entries(accumulator.take(0).0), [0, 1, 2, 3]);
}

#[test]
fn a_frame_that_another_lane_lost_calls_the_idle_one() {
    let mut accumulator = accumulator(2);
    accumulator.push(RECORD, 0).unwrap();
    accumulator.take(0);
    for entry in 1..=PER_FRAME {
        accumulator.push(RECORD, entry).unwrap();
    }
    let frame = frame(accumulator.take(1).0).unwrap();
    accumulator.take(0);
    accumulator.take(0);
    assert_eq!(accumulator.lose(1, frame), Some(0));
    assert_eq!(entries(accumulator.take(0).0).len(), PER_FRAME);
    assert!(!accumulator.wants_connection(1).0, "there is nothing left for it");
}

#[test]
fn while_the_first_lane_is_away_the_next_stands_in_for_it() {
    let mut accumulator = accumulator(2);
    accumulator.push(RECORD, 0).unwrap();
    accumulator.take(0);
    accumulator.lose(0, Vec::new());
    assert_eq!(accumulator.wants_connection(0), (true, None));
    assert_eq!(accumulator.push(RECORD, 1).unwrap(), Some(1));
    assert_eq!(entries(accumulator.take(1).0), [1]);
    assert!(accumulator.any_connected());
    assert_eq!(accumulator.take(0).0, Action::Park, "back again");
    accumulator.push(RECORD, 2).unwrap();
    assert_eq!(entries(accumulator.take(0).0), [2]);
}

#[test]
fn what_waits_is_given_up_only_when_no_lane_has_a_connection() {
    let mut accumulator = accumulator(2);
    for connection in [0, 1] {
        accumulator.push(RECORD, connection).unwrap();
        accumulator.take(connection);
        accumulator.push(RECORD, 10).unwrap();
        assert!(accumulator.any_connected());
        accumulator.lose(connection, Vec::new());
    }
    assert!(!accumulator.any_connected());
    assert_eq!(accumulator.drain_while(|_| true), [10]);
    assert!(accumulator.is_quiet());
}

#[test]
fn a_closed_queue_is_emptied_by_any_lane_and_takes_nothing_in() {
    let mut accumulator = accumulator(2);
    accumulator.push(RECORD, 1).unwrap();
    accumulator.close();
    assert!(accumulator.push(RECORD, 2).is_err());
    assert!(!accumulator.is_quiet());
    assert_eq!(entries(accumulator.take(1).0), [1]);
    assert!(!accumulator.is_quiet(), "a connection is sending");
    accumulator.take(1);
    accumulator.take(0);
    assert!(accumulator.is_quiet());
}

#[test]
fn a_lane_without_connection_makes_one_only_for_a_whole_frame() {
    let mut accumulator = disconnected(2, 1 << 20);
    assert_eq!(accumulator.wants_connection(1), (false, None));
    assert_eq!(
        accumulator.wants_connection(0),
        (true, None),
        "the first connection always has one"
    );
    accumulator.push(RECORD, 0).unwrap();
    assert_eq!(entries(accumulator.take(0).0), [0]);
    let called = (0..PER_FRAME).find_map(|entry| accumulator.push(RECORD, entry).unwrap());
    assert_eq!(called, Some(1));
    assert_eq!(accumulator.wants_connection(1), (true, None));
}

#[test]
fn without_any_connection_only_the_first_lane_is_tried() {
    let mut accumulator = disconnected(2, 1 << 20);
    accumulator.wants_connection(0);
    accumulator.wants_connection(1);
    let called = (0..3 * PER_FRAME).find_map(|entry| accumulator.push(RECORD, entry).unwrap());
    assert_eq!(called, None);
}

#[test]
fn the_turn_goes_round_the_partitions_frame_by_frame() {
    let (mut accumulator, primaries) = partitions::<3>(4);
    for (entry, connection) in primaries.into_iter().cycle().take(7).enumerate() {
        assert_eq!(accumulator.push(RECORD, entry).unwrap(), Some(connection));
        assert_eq!(entries(accumulator.take(connection).0), [entry]);
        assert_eq!(accumulator.take(connection), (Action::Park, None));
    }
}

#[test]
fn what_arrives_meanwhile_goes_to_the_next_partition_in_one_frame() {
    let (mut accumulator, primaries) = partitions::<2>(4);
    accumulator.push(RECORD, 0).unwrap();
    accumulator.take(primaries[0]);
    assert_eq!(accumulator.push(RECORD, 1).unwrap(), None, "a frame is under way");
    assert_eq!(accumulator.push(RECORD, 2).unwrap(), None, "a frame is under way");
    assert_eq!(accumulator.take(primaries[0]), (Action::Park, Some(primaries[1])));
    assert_eq!(entries(accumulator.take(primaries[1]).0), [1, 2]);
}

#[test]
fn a_partition_without_connection_is_passed_over() {
    let (mut accumulator, primaries) = partitions::<2>(2);
    accumulator.lose(primaries[0], Vec::new());
    for entry in 0..3 {
        assert_eq!(accumulator.push(RECORD, entry).unwrap(), Some(primaries[1]));
        assert_eq!(entries(accumulator.take(primaries[1]).0), [entry]);
        assert_eq!(accumulator.take(primaries[1]), (Action::Park, None));
    }
}

#[test]
fn partitions_have_as_many_lanes_each_and_one_at_least() {
    for (partitions, allowed) in [(1, 4), (2, 4), (3, 3), (4, 4), (6, 6)] {
        let mut accumulator = Accumulator::<usize>::new(4, 1 << 20);
        for _ in 0..partitions {
            accumulator.add_partition();
        }
        let connections = 0..accumulator.connections.len();
        assert_eq!(
            connections
                .filter(|connection| accumulator.is_allowed(*connection))
                .count(),
            allowed,
            "{partitions}"
        );
    }
}

#[test]
fn a_lane_too_many_closes_its_connection_when_its_frame_is_sent() {
    let mut accumulator = accumulator(2);
    for entry in 0..3 * PER_FRAME {
        accumulator.push(RECORD, entry).unwrap();
    }
    accumulator.take(0);
    accumulator.take(1);
    accumulator.set_max_connections(1);
    assert_eq!(accumulator.take(1).0, Action::Disconnect);
    assert_eq!(accumulator.wants_connection(1), (false, None));
    assert_eq!(entries(accumulator.take(0).0).len(), PER_FRAME);
}

mod model {
    //! Lanes that do anything in any order: nothing is lost, doubled, or left with nobody to take it.

    use proptest::prelude::*;

    use super::*;

    const PARTITIONS: usize = 2;
    const MAX_PRODUCER_CONNECTIONS: usize = 6;

    #[derive(Debug, Clone, Copy)]
    enum Act {
        Push {
            bytes: usize,
        },
        /// A connection that runs takes its next step; it ends well or badly.
        Step {
            connection: usize,
            well: bool,
        },
        /// The bound on the connections changes.
        Limit {
            connections: usize,
        },
        /// So many are worth a wait from now on.
        Enough {
            entries: usize,
        },
    }

    #[derive(Debug)]
    enum Doing {
        /// Asleep until it is called.
        Sleeping {
            connected: bool,
        },
        /// Asleep for a moment, or until it is called.
        Gathering,
        Connecting,
        Sending(Vec<(usize, usize)>),
    }

    fn acts() -> impl Strategy<Value = Vec<Act>> {
        let push = (1..SMALL_BATCH_BYTES).prop_map(|bytes| Act::Push { bytes });
        let step = (0..MAX_PRODUCER_CONNECTIONS, prop::bool::weighted(0.7))
            .prop_map(|(connection, well)| Act::Step { connection, well });
        let limit = (1..=MAX_PRODUCER_CONNECTIONS).prop_map(|connections| Act::Limit { connections });
        let batch_target = (0..5_usize).prop_map(|entries| Act::Enough { entries });
        prop::collection::vec(prop_oneof![8 => push, 8 => step, 1 => limit, 1 => batch_target], 0..200)
    }

    struct World {
        accumulator: Accumulator<usize>,
        connections: Vec<Doing>,
        sent: Vec<usize>,
    }

    impl World {
        fn ask(&mut self, connection: usize, connected: bool) {
            let wake = if connected {
                let (turn, wake) = self.accumulator.take(connection);
                self.connections[connection] = match turn {
                    Action::Send(frame) => Doing::Sending(frame),
                    Action::Linger => Doing::Gathering,
                    Action::Park => Doing::Sleeping { connected },
                    Action::Disconnect => Doing::Sleeping { connected: false },
                };
                wake
            } else {
                let (wanted, wake) = self.accumulator.wants_connection(connection);
                self.connections[connection] = if wanted {
                    Doing::Connecting
                } else {
                    Doing::Sleeping { connected }
                };
                wake
            };
            self.wake(wake);
        }

        fn wake(&mut self, wake: Wake) {
            if let Some(connection) = wake {
                assert!(
                    self.rouse(connection),
                    "lane {connection} was called while it was {:?}",
                    self.connections[connection]
                );
            }
        }

        fn wake_all(&mut self) {
            for connection in 0..self.connections.len() {
                self.rouse(connection);
            }
        }

        /// It asks what to do, if it is asleep.
        fn rouse(&mut self, connection: usize) -> bool {
            let connected = match self.connections[connection] {
                Doing::Sleeping { connected } => connected,
                Doing::Gathering => true,
                Doing::Connecting | Doing::Sending(_) => return false,
            };
            self.ask(connection, connected);
            true
        }

        fn step(&mut self, connection: usize, well: bool) {
            match std::mem::replace(&mut self.connections[connection], Doing::Connecting) {
                asleep @ Doing::Sleeping { .. } => self.connections[connection] = asleep,
                Doing::Gathering => self.ask(connection, true),
                Doing::Connecting => self.ask(connection, well),
                Doing::Sending(frame) if well => {
                    self.sent.extend(frame.into_iter().map(|(_, entry)| entry));
                    self.ask(connection, true);
                }
                Doing::Sending(frame) => {
                    let wake = self.accumulator.lose(connection, frame);
                    self.wake(wake);
                    self.ask(connection, false);
                }
            }
        }
    }

    proptest! {
        #[test]
        fn everything_is_sent_once(acts in acts()) {
            let mut accumulator = Accumulator::new(MAX_PRODUCER_CONNECTIONS, usize::MAX);
            for _ in 0..PARTITIONS {
                accumulator.add_partition();
            }
            let connections = accumulator.connections.len();
            let mut world = World {
                accumulator,
                connections: (0..connections).map(|_| Doing::Connecting).collect(),
                sent: Vec::new(),
            };
            (0..connections).for_each(|connection| world.ask(connection, false));
            let mut pushed = 0;
            for act in acts {
                match act {
                    Act::Push { bytes } => {
                        let wake = world.accumulator.push(bytes, pushed).unwrap();
                        pushed += 1;
                        world.wake(wake);
                    }
                    Act::Step { connection, well } => world.step(connection % connections, well),
                    Act::Limit { connections } => {
                        world.accumulator.set_max_connections(connections);
                        world.wake_all();
                    }
                    Act::Enough { entries } => world.accumulator.set_batch_target(entries),
                }
            }
            // From here on all goes well, and nobody is called from outside: at worst one connection connects, and then gathers
            // and sends entry by entry.
            for _ in 0..2 * (pushed + 1) {
                (0..connections).for_each(|connection| world.step(connection, true));
            }
            world.sent.sort_unstable();
            prop_assert_eq!(world.sent, (0..pushed).collect::<Vec<_>>());
            prop_assert!(world.accumulator.is_quiet());
        }
    }
}
