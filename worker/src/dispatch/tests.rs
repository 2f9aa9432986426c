use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

const LIMIT: usize = 3;

fn items(started: impl IntoIterator<Item = Held<u8, u32>>) -> Vec<u32> {
    started.into_iter().map(|held| held.item).collect()
}

fn start_all(dispatch: &mut Dispatch<u8, u32>) -> Vec<u32> {
    items(std::iter::from_fn(|| dispatch.start()))
}

#[test]
fn requests_of_one_key_run_one_at_a_time() {
    let mut dispatch = Dispatch::new(LIMIT);
    for (key, item) in [(Some(1), 10), (Some(1), 11), (None, 12), (Some(2), 13), (None, 14)] {
        dispatch.push(key, item);
    }
    assert_eq!(start_all(&mut dispatch), [10, 12, 13], "the limit is reached");
    dispatch.finish(None);
    assert_eq!(start_all(&mut dispatch), [14]);
    dispatch.finish(Some(1));
    assert_eq!(start_all(&mut dispatch), [11]);
}

#[test]
fn paused_request_holds_its_key_and_no_place() {
    let mut dispatch = Dispatch::new(1);
    for (key, item) in [(Some(1), 10), (Some(1), 11), (Some(2), 12)] {
        dispatch.push(key, item);
    }
    let paused = dispatch.start().unwrap();
    dispatch.pause();
    assert_eq!(start_all(&mut dispatch), [12]);
    dispatch.finish(Some(2));
    assert_eq!(start_all(&mut dispatch), [0; 0], "its key is held");
    dispatch.resume(paused);
    assert_eq!(start_all(&mut dispatch), [10]);
    dispatch.pause();
    assert_eq!(dispatch.abandon(Some(1)), [11]);
    dispatch.push(Some(1), 13);
    assert_eq!(start_all(&mut dispatch), [13]);
}

#[derive(Debug, Clone)]
enum Event {
    Push(Option<u8>),
    Start,
    /// Of the running ones, the one with this index.
    Finish(usize),
    Pause(usize),
    /// Of the paused ones.
    Resume(usize),
    Release(usize),
    Abandon(usize),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => prop::option::weighted(0.8, 0..4_u8).prop_map(Event::Push),
        4 => Just(Event::Start),
        3 => any::<usize>().prop_map(Event::Finish),
        1 => any::<usize>().prop_map(Event::Pause),
        1 => any::<usize>().prop_map(Event::Resume),
        1 => any::<usize>().prop_map(Event::Release),
        1 => any::<usize>().prop_map(Event::Abandon),
    ]
}

/// All requests in the order in which they were pushed, with their states.
#[derive(Debug, Default)]
struct Model {
    next: u32,
    /// Neither finished nor abandoned.
    unfinished: BTreeMap<u32, Option<u8>>,
    running: Vec<u32>,
    paused: Vec<u32>,
}

impl Model {
    /// The lowest unfinished request of each key, and those without a key, that neither run nor are paused.
    fn ready(&self) -> BTreeSet<u32> {
        let mut held = BTreeSet::new();
        let heads = self
            .unfinished
            .iter()
            .filter(|(_, key)| key.is_none_or(|key| held.insert(key)));
        let heads = heads.map(|(item, _)| *item);
        heads
            .filter(|item| !self.running.contains(item) && !self.paused.contains(item))
            .collect()
    }
}

fn take(items: &mut Vec<u32>, index: usize) -> Option<u32> {
    let index = index.checked_rem(items.len())?;
    Some(items.remove(index))
}

proptest! {
    #[test]
    fn dispatch_matches_the_model(events in prop::collection::vec(event(), 0..120)) {
        let mut dispatch = Dispatch::<u8, u32>::new(LIMIT);
        let mut model = Model::default();
        for event in events {
            match event {
                Event::Push(key) => {
                    dispatch.push(key, model.next);
                    model.unfinished.insert(model.next, key);
                    model.next += 1;
                }
                Event::Start => {
                    let ready = model.ready();
                    match dispatch.start() {
                        Some(held) => {
                            prop_assert!(ready.contains(&held.item), "{} of {ready:?}", held.item);
                            prop_assert_eq!(held.key, model.unfinished[&held.item]);
                            model.running.push(held.item);
                        }
                        None => prop_assert!(ready.is_empty() || model.running.len() == LIMIT),
                    }
                }
                Event::Finish(index) => if let Some(item) = take(&mut model.running, index) {
                    dispatch.finish(model.unfinished.remove(&item).unwrap());
                }
                Event::Pause(index) => if let Some(item) = take(&mut model.running, index) {
                    dispatch.pause();
                    model.paused.push(item);
                }
                Event::Resume(index) => if let Some(item) = take(&mut model.paused, index) {
                    dispatch.resume(Held { key: model.unfinished[&item], item });
                }
                Event::Release(index) => if let Some(item) = take(&mut model.paused, index) {
                    dispatch.release(model.unfinished.remove(&item).unwrap());
                }
                Event::Abandon(index) => if let Some(item) = take(&mut model.paused, index) {
                    let key = model.unfinished.remove(&item).unwrap();
                    let dropped: Vec<_> = dispatch.abandon(key).into();
                    let behind: Vec<_> = model.unfinished.iter().filter(|(_, of)| key.is_some() && **of == key).map(|(item, _)| *item).collect();
                    prop_assert_eq!(&dropped, &behind);
                    for item in dropped {
                        model.unfinished.remove(&item);
                    }
                }
            }
            prop_assert_eq!(dispatch.running(), model.running.len());
        }
    }
}
