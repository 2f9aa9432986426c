use super::*;

const RECORD: usize = 100;
const PER_FRAME: usize = SMALL_FRAME_BYTES / RECORD;

/// A queue whose lanes all have connections and nothing to do.
fn queue(lanes: usize) -> Queue<usize> {
    let mut queue = unlinked(lanes, 1 << 20);
    for lane in 0..lanes {
        assert_eq!(queue.take(lane).0, Turn::Wait, "an empty queue has no frame");
    }
    queue
}

/// A queue for one partition whose lanes have no connection yet.
fn unlinked(lanes: usize, max_bytes: usize) -> Queue<usize> {
    let mut queue = Queue::new(lanes, max_bytes);
    assert_eq!(queue.add_partition(), 0..lanes);
    queue
}

/// A queue for so many partitions whose home lanes have connections and nothing to do, and these lanes.
fn partitions<const COUNT: usize>(max_lanes: usize) -> (Queue<usize>, [usize; COUNT]) {
    let mut queue = Queue::new(max_lanes, 1 << 20);
    let homes = [(); COUNT].map(|()| queue.add_partition().start);
    homes.iter().for_each(|lane| drop(queue.take(*lane)));
    (queue, homes)
}

fn frame(turn: Turn<usize>) -> Option<Vec<(usize, usize)>> {
    match turn {
        Turn::Send(frame) => Some(frame),
        Turn::Gather | Turn::Wait | Turn::Unlink => None,
    }
}

fn entries(turn: Turn<usize>) -> Vec<usize> {
    frame(turn).into_iter().flatten().map(|(_, it)| it).collect()
}

#[test]
fn an_idle_outbox_sends_at_once() {
    let mut queue = queue(2);
    assert_eq!(queue.push(RECORD, 1).unwrap(), Some(0));
    assert_eq!(entries(queue.take(0).0), [1]);
}

#[test]
fn what_arrives_meanwhile_goes_with_the_next_frame() {
    let mut queue = queue(2);
    queue.push(RECORD, 1).unwrap();
    queue.take(0);
    for entry in 2..5 {
        assert_eq!(queue.push(RECORD, entry).unwrap(), None, "less than a frame waits");
    }
    assert_eq!(entries(queue.take(0).0), [2, 3, 4]);
}

#[test]
fn a_second_lane_is_called_for_whole_frames_only() {
    let mut queue = queue(2);
    queue.push(RECORD, 0).unwrap();
    queue.take(0);
    let called: Vec<Wake> = (0..=PER_FRAME)
        .map(|entry| queue.push(RECORD, entry).unwrap())
        .collect();
    assert_eq!(called.iter().flatten().collect::<Vec<_>>(), [&1]);
    assert_eq!(entries(queue.take(1).0), (0..PER_FRAME).collect::<Vec<_>>());
    assert_eq!(queue.take(1).0, Turn::Wait, "the rest is less than a frame");
    assert_eq!(entries(queue.take(0).0), [PER_FRAME]);
}

#[test]
fn a_burst_calls_lane_after_lane() {
    let mut queue = queue(3);
    let called: Vec<usize> = (0..3 * PER_FRAME)
        .filter_map(|entry| queue.push(RECORD, entry).unwrap())
        .collect();
    assert_eq!(called, [0], "the called lane calls the next");
    let (first, wake) = queue.take(0);
    assert_eq!((entries(first).len(), wake), (PER_FRAME, Some(1)));
    let (second, wake) = queue.take(1);
    assert_eq!((entries(second).len(), wake), (PER_FRAME, Some(2)));
    assert_eq!(entries(queue.take(2).0).len(), PER_FRAME);
}

#[test]
fn no_frame_is_larger_than_the_limit_but_for_a_single_record() {
    let mut queue = queue(1);
    queue.push(RECORD, 1).unwrap();
    queue.push(SMALL_FRAME_BYTES + 1, 2).unwrap();
    queue.push(RECORD, 3).unwrap();
    assert_eq!(entries(queue.take(0).0), [1]);
    assert_eq!(entries(queue.take(0).0), [2]);
    assert_eq!(entries(queue.take(0).0), [3]);
}

#[test]
fn a_lane_gathers_until_there_is_enough() {
    let mut queue = queue(2);
    queue.set_enough(3);
    assert_eq!(queue.push(RECORD, 1).unwrap(), Some(0));
    assert_eq!(queue.take(0), (Turn::Gather, None));
    assert_eq!(queue.push(RECORD, 2).unwrap(), None);
    assert_eq!(queue.push(RECORD, 3).unwrap(), Some(0));
    assert_eq!(entries(queue.take(0).0), [1, 2, 3]);
}

#[test]
fn a_lane_gathers_no_longer_than_a_moment() {
    let mut queue = queue(2);
    queue.set_enough(3);
    queue.push(RECORD, 1).unwrap();
    assert_eq!(queue.take(0).0, Turn::Gather);
    assert_eq!(entries(queue.take(0).0), [1], "it asks again");
    queue.push(RECORD, 2).unwrap();
    assert_eq!(queue.take(0).0, Turn::Gather, "the next frame, too");
}

#[test]
fn a_whole_frame_is_enough_and_so_is_the_end() {
    let mut queue = queue(2);
    queue.set_enough(usize::MAX);
    queue.push(RECORD, 0).unwrap();
    assert_eq!(queue.take(0).0, Turn::Gather);
    for entry in 1..PER_FRAME - 1 {
        assert_eq!(queue.push(RECORD, entry).unwrap(), None, "less than a frame");
    }
    assert_eq!(queue.push(RECORD, PER_FRAME - 1).unwrap(), Some(0));
    assert_eq!(entries(queue.take(0).0).len(), PER_FRAME);
    queue.push(RECORD, PER_FRAME).unwrap();
    queue.close();
    assert_eq!(entries(queue.take(0).0), [PER_FRAME]);
}

#[test]
fn the_next_partition_gathers_while_a_frame_is_under_way() {
    let (mut queue, homes) = partitions::<2>(2);
    queue.push(RECORD, 0).unwrap();
    queue.take(homes[0]);
    queue.push(RECORD, 1).unwrap();
    queue.set_enough(2);
    assert_eq!(queue.take(homes[0]), (Turn::Wait, Some(homes[1])));
    assert_eq!(queue.take(homes[1]), (Turn::Gather, None));
    assert_eq!(queue.push(RECORD, 2).unwrap(), Some(homes[1]));
    assert_eq!(entries(queue.take(homes[1]).0), [1, 2]);
}

#[test]
fn a_full_queue_gives_the_entry_back() {
    let mut queue = unlinked(1, 250);
    assert!(queue.push(300, 1).is_ok(), "alone, any entry fits");
    assert_eq!(queue.push(1, 2).unwrap_err().0, 2);
    queue.take(0);
    assert!(queue.push(125, 3).is_ok());
    assert!(queue.push(125, 4).is_ok());
    assert!(queue.push(1, 5).is_err());
}

#[test]
fn a_frame_that_is_to_be_sent_again_is_the_next_one_in_its_old_order() {
    let mut queue = queue(1);
    for entry in 0..3 {
        queue.push(RECORD, entry).unwrap();
    }
    let frame = frame(queue.take(0).0).unwrap();
    queue.push(RECORD, 3).unwrap();
    queue.lose(0, frame);
    assert_eq!(entries(queue.take(0).0), [0, 1, 2, 3]);
}

#[test]
fn a_frame_that_another_lane_lost_calls_the_idle_one() {
    let mut queue = queue(2);
    queue.push(RECORD, 0).unwrap();
    queue.take(0);
    for entry in 1..=PER_FRAME {
        queue.push(RECORD, entry).unwrap();
    }
    let frame = frame(queue.take(1).0).unwrap();
    queue.take(0);
    queue.take(0);
    assert_eq!(queue.lose(1, frame), Some(0));
    assert_eq!(entries(queue.take(0).0).len(), PER_FRAME);
    assert!(!queue.knock(1).0, "there is nothing left for it");
}

#[test]
fn while_the_first_lane_is_away_the_next_stands_in_for_it() {
    let mut queue = queue(2);
    queue.push(RECORD, 0).unwrap();
    queue.take(0);
    queue.lose(0, Vec::new());
    assert_eq!(queue.knock(0), (true, None));
    assert_eq!(queue.push(RECORD, 1).unwrap(), Some(1));
    assert_eq!(entries(queue.take(1).0), [1]);
    assert!(queue.any_linked());
    assert_eq!(queue.take(0).0, Turn::Wait, "back again");
    queue.push(RECORD, 2).unwrap();
    assert_eq!(entries(queue.take(0).0), [2]);
}

#[test]
fn what_waits_is_given_up_only_when_no_lane_has_a_connection() {
    let mut queue = queue(2);
    for lane in [0, 1] {
        queue.push(RECORD, lane).unwrap();
        queue.take(lane);
        queue.push(RECORD, 10).unwrap();
        assert!(queue.any_linked());
        queue.lose(lane, Vec::new());
    }
    assert!(!queue.any_linked());
    assert_eq!(queue.drain_while(|_| true), [10]);
    assert!(queue.is_quiet());
}

#[test]
fn a_closed_queue_is_emptied_by_any_lane_and_takes_nothing_in() {
    let mut queue = queue(2);
    queue.push(RECORD, 1).unwrap();
    queue.close();
    assert!(queue.push(RECORD, 2).is_err());
    assert!(!queue.is_quiet());
    assert_eq!(entries(queue.take(1).0), [1]);
    assert!(!queue.is_quiet(), "a lane is sending");
    queue.take(1);
    queue.take(0);
    assert!(queue.is_quiet());
}

#[test]
fn a_lane_without_connection_makes_one_only_for_a_whole_frame() {
    let mut queue = unlinked(2, 1 << 20);
    assert_eq!(queue.knock(1), (false, None));
    assert_eq!(queue.knock(0), (true, None), "the first lane always has one");
    queue.push(RECORD, 0).unwrap();
    assert_eq!(entries(queue.take(0).0), [0]);
    let called = (0..PER_FRAME).find_map(|entry| queue.push(RECORD, entry).unwrap());
    assert_eq!(called, Some(1));
    assert_eq!(queue.knock(1), (true, None));
}

#[test]
fn without_any_connection_only_the_first_lane_is_tried() {
    let mut queue = unlinked(2, 1 << 20);
    queue.knock(0);
    queue.knock(1);
    let called = (0..3 * PER_FRAME).find_map(|entry| queue.push(RECORD, entry).unwrap());
    assert_eq!(called, None);
}

#[test]
fn the_turn_goes_round_the_partitions_frame_by_frame() {
    let (mut queue, homes) = partitions::<3>(4);
    for (entry, lane) in homes.into_iter().cycle().take(7).enumerate() {
        assert_eq!(queue.push(RECORD, entry).unwrap(), Some(lane));
        assert_eq!(entries(queue.take(lane).0), [entry]);
        assert_eq!(queue.take(lane), (Turn::Wait, None));
    }
}

#[test]
fn what_arrives_meanwhile_goes_to_the_next_partition_in_one_frame() {
    let (mut queue, homes) = partitions::<2>(4);
    queue.push(RECORD, 0).unwrap();
    queue.take(homes[0]);
    assert_eq!(queue.push(RECORD, 1).unwrap(), None, "a frame is under way");
    assert_eq!(queue.push(RECORD, 2).unwrap(), None, "a frame is under way");
    assert_eq!(queue.take(homes[0]), (Turn::Wait, Some(homes[1])));
    assert_eq!(entries(queue.take(homes[1]).0), [1, 2]);
}

#[test]
fn a_partition_without_connection_is_passed_over() {
    let (mut queue, homes) = partitions::<2>(2);
    queue.lose(homes[0], Vec::new());
    for entry in 0..3 {
        assert_eq!(queue.push(RECORD, entry).unwrap(), Some(homes[1]));
        assert_eq!(entries(queue.take(homes[1]).0), [entry]);
        assert_eq!(queue.take(homes[1]), (Turn::Wait, None));
    }
}

#[test]
fn partitions_have_as_many_lanes_each_and_one_at_least() {
    for (partitions, allowed) in [(1, 4), (2, 4), (3, 3), (4, 4), (6, 6)] {
        let mut queue = Queue::<usize>::new(4, 1 << 20);
        for _ in 0..partitions {
            queue.add_partition();
        }
        let lanes = 0..queue.lanes.len();
        assert_eq!(
            lanes.filter(|lane| queue.is_allowed(*lane)).count(),
            allowed,
            "{partitions}"
        );
    }
}

#[test]
fn a_lane_too_many_closes_its_connection_when_its_frame_is_sent() {
    let mut queue = queue(2);
    for entry in 0..3 * PER_FRAME {
        queue.push(RECORD, entry).unwrap();
    }
    queue.take(0);
    queue.take(1);
    queue.set_max_lanes(1);
    assert_eq!(queue.take(1).0, Turn::Unlink);
    assert_eq!(queue.knock(1), (false, None));
    assert_eq!(entries(queue.take(0).0).len(), PER_FRAME);
}

mod model {
    //! Lanes that do anything in any order: nothing is lost, doubled, or left with nobody to take it.

    use proptest::prelude::*;

    use super::*;

    const PARTITIONS: usize = 2;
    const LANES: usize = 6;

    #[derive(Debug, Clone, Copy)]
    enum Act {
        Push {
            bytes: usize,
        },
        /// A lane that runs takes its next step; it ends well or badly.
        Step {
            lane: usize,
            well: bool,
        },
        /// The bound on the lanes changes.
        Limit {
            lanes: usize,
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
            linked: bool,
        },
        /// Asleep for a moment, or until it is called.
        Gathering,
        Connecting,
        Sending(Vec<(usize, usize)>),
    }

    fn acts() -> impl Strategy<Value = Vec<Act>> {
        let push = (1..SMALL_FRAME_BYTES).prop_map(|bytes| Act::Push { bytes });
        let step = (0..LANES, prop::bool::weighted(0.7)).prop_map(|(lane, well)| Act::Step { lane, well });
        let limit = (1..=LANES).prop_map(|lanes| Act::Limit { lanes });
        let enough = (0..5_usize).prop_map(|entries| Act::Enough { entries });
        prop::collection::vec(prop_oneof![8 => push, 8 => step, 1 => limit, 1 => enough], 0..200)
    }

    struct World {
        queue: Queue<usize>,
        lanes: Vec<Doing>,
        sent: Vec<usize>,
    }

    impl World {
        fn ask(&mut self, lane: usize, linked: bool) {
            let wake = if linked {
                let (turn, wake) = self.queue.take(lane);
                self.lanes[lane] = match turn {
                    Turn::Send(frame) => Doing::Sending(frame),
                    Turn::Gather => Doing::Gathering,
                    Turn::Wait => Doing::Sleeping { linked },
                    Turn::Unlink => Doing::Sleeping { linked: false },
                };
                wake
            } else {
                let (wanted, wake) = self.queue.knock(lane);
                self.lanes[lane] = if wanted {
                    Doing::Connecting
                } else {
                    Doing::Sleeping { linked }
                };
                wake
            };
            self.wake(wake);
        }

        fn wake(&mut self, wake: Wake) {
            if let Some(lane) = wake {
                assert!(
                    self.rouse(lane),
                    "lane {lane} was called while it was {:?}",
                    self.lanes[lane]
                );
            }
        }

        fn wake_all(&mut self) {
            for lane in 0..self.lanes.len() {
                self.rouse(lane);
            }
        }

        /// It asks what to do, if it is asleep.
        fn rouse(&mut self, lane: usize) -> bool {
            let linked = match self.lanes[lane] {
                Doing::Sleeping { linked } => linked,
                Doing::Gathering => true,
                Doing::Connecting | Doing::Sending(_) => return false,
            };
            self.ask(lane, linked);
            true
        }

        fn step(&mut self, lane: usize, well: bool) {
            match std::mem::replace(&mut self.lanes[lane], Doing::Connecting) {
                asleep @ Doing::Sleeping { .. } => self.lanes[lane] = asleep,
                Doing::Gathering => self.ask(lane, true),
                Doing::Connecting => self.ask(lane, well),
                Doing::Sending(frame) if well => {
                    self.sent.extend(frame.into_iter().map(|(_, entry)| entry));
                    self.ask(lane, true);
                }
                Doing::Sending(frame) => {
                    let wake = self.queue.lose(lane, frame);
                    self.wake(wake);
                    self.ask(lane, false);
                }
            }
        }
    }

    proptest! {
        #[test]
        fn everything_is_sent_once(acts in acts()) {
            let mut queue = Queue::new(LANES, usize::MAX);
            for _ in 0..PARTITIONS {
                queue.add_partition();
            }
            let lanes = queue.lanes.len();
            let mut world = World {
                queue,
                lanes: (0..lanes).map(|_| Doing::Connecting).collect(),
                sent: Vec::new(),
            };
            (0..lanes).for_each(|lane| world.ask(lane, false));
            let mut pushed = 0;
            for act in acts {
                match act {
                    Act::Push { bytes } => {
                        let wake = world.queue.push(bytes, pushed).unwrap();
                        pushed += 1;
                        world.wake(wake);
                    }
                    Act::Step { lane, well } => world.step(lane % lanes, well),
                    Act::Limit { lanes } => {
                        world.queue.set_max_lanes(lanes);
                        world.wake_all();
                    }
                    Act::Enough { entries } => world.queue.set_enough(entries),
                }
            }
            // From here on all goes well, and nobody is called from outside: at worst one lane connects, and then gathers
            // and sends entry by entry.
            for _ in 0..2 * (pushed + 1) {
                (0..lanes).for_each(|lane| world.step(lane, true));
            }
            world.sent.sort_unstable();
            prop_assert_eq!(world.sent, (0..pushed).collect::<Vec<_>>());
            prop_assert!(world.queue.is_quiet());
        }
    }
}
