use super::*;

const RECORD: usize = 100;
const PER_FRAME: usize = FRAME_BYTES / RECORD;

fn queue(lanes: usize) -> Queue<usize> {
    let mut queue = Queue::new(lanes, 1 << 20);
    for lane in 0..lanes {
        assert!(queue.take(lane).0.is_none(), "an empty queue has no frame");
    }
    queue
}

fn entries(frame: Option<Vec<(usize, usize)>>) -> Vec<usize> {
    frame.into_iter().flatten().map(|(_, it)| it).collect()
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
    assert!(queue.take(1).0.is_none(), "the rest is less than a frame");
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
    assert_eq!((first.unwrap().len(), wake), (PER_FRAME, Some(1)));
    let (second, wake) = queue.take(1);
    assert_eq!((second.unwrap().len(), wake), (PER_FRAME, Some(2)));
    assert_eq!(queue.take(2).0.unwrap().len(), PER_FRAME);
}

#[test]
fn no_frame_is_larger_than_the_limit_but_for_a_single_record() {
    let mut queue = queue(1);
    queue.push(RECORD, 1).unwrap();
    queue.push(FRAME_BYTES + 1, 2).unwrap();
    queue.push(RECORD, 3).unwrap();
    assert_eq!(entries(queue.take(0).0), [1]);
    assert_eq!(entries(queue.take(0).0), [2]);
    assert_eq!(entries(queue.take(0).0), [3]);
}

#[test]
fn a_full_queue_gives_the_entry_back() {
    let mut queue = Queue::new(1, 250);
    assert!(queue.push(300, 1).is_ok(), "alone, any entry fits");
    assert_eq!(queue.push(1, 2).unwrap_err().0, 2);
    queue.take(0);
    assert!(queue.push(125, 3).is_ok());
    assert!(queue.push(125, 4).is_ok());
    assert!(queue.push(1, 5).is_err());
}

#[test]
fn a_frame_put_back_is_the_next_one_in_its_old_order() {
    let mut queue = queue(1);
    for entry in 0..3 {
        queue.push(RECORD, entry).unwrap();
    }
    let frame = queue.take(0).0.unwrap();
    queue.push(RECORD, 3).unwrap();
    queue.put_back(frame);
    assert_eq!(entries(queue.take(0).0), [0, 1, 2, 3]);
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
    let mut queue = queue(2);
    queue.push(RECORD, 0).unwrap();
    queue.take(0);
    assert!(!queue.knock(1));
    let called = (0..PER_FRAME).find_map(|entry| queue.push(RECORD, entry).unwrap());
    assert_eq!(called, Some(1));
    assert!(queue.knock(1));
}
