//! What was read while the reply was awaited, and what it says in words. Does no I/O, and is told the time.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    time::Duration,
};

use kafka::{ConsumedRecord, TopicPartition};
use shared::{headers, heartbeat::Heartbeat};
use uuid::Uuid;

use crate::unusable_replies::header_names;

/// Lines about records of one kind.
const MAX_LINES: usize = 5;

/// The bytes of a value that are searched for the id, and that are shown.
const SEARCHED_BYTES: usize = 64 * 1024;
const SHOWN_BYTES: usize = 80;

/// What a reply must have.
#[derive(Debug, Clone)]
pub(super) struct Expected {
    pub(super) id: Uuid,
    /// Where the request is written.
    pub(super) request: TopicPartition,
    /// Where the reply must come.
    pub(super) reply: TopicPartition,
    pub(super) timeout: Duration,
    /// The header with the id; `None` if the key is all there is.
    pub(super) correlation_name: Option<&'static str>,
}

/// What a record means for the wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    Nothing,
    /// It is a reply to this request, but a gateway would not take it.
    Unusable,
    Reply,
}

/// A reply in the right place with the right id.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) record: ConsumedRecord,
    pub(super) after: Duration,
}

/// Everything that was read.
#[derive(Debug)]
pub(super) struct Findings {
    expected: Expected,
    /// The offset of the request.
    request_offset: Option<i64>,
    pub(super) reply: Option<Found>,
    /// About replies to this request that a gateway would not take.
    unusable: Lines,
    /// About records without a valid id that may be replies to this request.
    without_id: Lines,
    /// Replies with other ids, in the right place.
    others: u64,
    /// The workers that announced the topic, by id, each with the topics of its heartbeats.
    workers: BTreeMap<String, (Heartbeat, BTreeSet<String>)>,
}

/// A bounded number of lines.
#[derive(Debug, Default)]
struct Lines {
    lines: Vec<String>,
    more: u64,
}

// === impl Findings ===

impl Findings {
    pub(super) fn new(expected: Expected) -> Self {
        Self {
            expected,
            request_offset: None,
            reply: None,
            unusable: Lines::default(),
            without_id: Lines::default(),
            others: 0,
            workers: BTreeMap::new(),
        }
    }

    /// A record was read after the request was sent.
    pub(super) fn on_record(&mut self, place: &TopicPartition, record: &ConsumedRecord, after: Duration) -> Progress {
        if headers::is_heartbeat(record.key()) {
            self.on_heartbeat(place, record.value().unwrap_or_default());
            return Progress::Nothing;
        }
        let id = headers::correlation_id(record.headers(), record.key());
        let is_ours = id == Some(self.expected.id);
        if is_ours && *place == self.expected.request && self.request_offset.is_none() {
            self.request_offset = Some(record.offset());
            return Progress::Nothing;
        }
        if is_ours && *place == self.expected.reply {
            let record = record.clone();
            self.reply.get_or_insert(Found { record, after });
            return Progress::Reply;
        }
        let at = format!("{place} at offset {}", record.offset());
        if is_ours {
            self.unusable.push(|| {
                format!(
                    "a reply to this request came to {at}, but the request asks for {}",
                    self.expected.reply
                )
            });
            return Progress::Unusable;
        }
        if let Some(why) = self.changed(record) {
            self.unusable
                .push(|| format!("a reply to this request came to {at}, but {why}"));
            return Progress::Unusable;
        }
        if *place != self.expected.reply {
            return Progress::Nothing;
        }
        if id.is_some() {
            self.others += 1;
            return Progress::Nothing;
        }
        self.without_id.push(|| {
            let what = match headers::correlation_header(record.headers()) {
                Some((name, value)) => format!("{name} {}, which is no id of a gateway", shown(value)),
                None => "no correlation id".to_owned(),
            };
            format!(
                "a record at {at} has {what}; its headers: {}",
                header_names(record.headers())
            )
        });
        Progress::Nothing
    }

    fn on_heartbeat(&mut self, place: &TopicPartition, value: &[u8]) {
        let Ok(heartbeat) = Heartbeat::from_value(value) else {
            return;
        };
        if !heartbeat.reads(&self.expected.request.topic) {
            return;
        }
        let id = heartbeat.id.clone();
        let (last, topics) = self.workers.entry(id).or_default();
        *last = heartbeat;
        topics.insert(place.topic.to_string());
    }

    /// Why a record that belongs to this request does not have its correlation id. `None` if nothing says that it belongs to it.
    fn changed(&self, record: &ConsumedRecord) -> Option<String> {
        let found = record.headers();
        let header = headers::correlation_header(found);
        if let Some((name, value)) = header
            && self.is_in(value)
        {
            return Some(format!(
                "its {name} is {}, not the bytes of the id: copy the header unchanged",
                shown(value)
            ));
        }
        let elsewhere = found
            .iter()
            .find(|(_, value)| value.is_some_and(|value| self.is_in(value)))
            .map(|(name, _)| format!("in the header {}", name.escape_ascii()))
            .or_else(|| self.is_in(record.key()?).then(|| "in its key".to_owned()))
            .or_else(|| self.is_in(record.value()?).then(|| "in its value".to_owned()))?;
        Some(match (header, self.expected.correlation_name) {
            (Some((name, value)), _) => {
                format!(
                    "its {name} was changed to {}: the id is only {elsewhere}; copy the header unchanged",
                    shown(value)
                )
            }
            (None, Some(name)) => {
                format!("it has no correlation id: the id is only {elsewhere}; copy the header {name}")
            }
            (None, None) => format!("it has no correlation id: the id is only {elsewhere}; keep the key unchanged"),
        })
    }

    /// Whether bytes contain the id in one of its forms.
    fn is_in(&self, bytes: &[u8]) -> bool {
        let bytes = bytes.get(..SEARCHED_BYTES).unwrap_or(bytes).to_ascii_lowercase();
        let has = |text: &[u8]| bytes.windows(text.len()).any(|window| window == text);
        let id = self.expected.id;
        has(id.hyphenated().to_string().as_bytes()) || has(id.simple().to_string().as_bytes())
    }

    /// Whether no worker has announced the topic yet.
    pub(super) fn has_no_worker(&self) -> bool {
        self.workers.is_empty()
    }

    /// Where the request is written.
    pub(super) fn request_partition(&self) -> &TopicPartition {
        &self.expected.request
    }

    /// The offset of the request, once it was read.
    pub(super) fn request_offset(&self) -> Option<i64> {
        self.request_offset
    }

    /// The groups of the workers that announced the topic.
    pub(super) fn groups(&self) -> BTreeSet<String> {
        let groups = self.workers.values().map(|(heartbeat, _)| heartbeat.group.clone());
        groups.filter(|group| !group.is_empty()).collect()
    }

    /// What came instead of a usable reply.
    pub(super) fn lines(&self) -> Vec<String> {
        let Expected { reply, timeout, .. } = &self.expected;
        let mut lines = match &self.reply {
            Some(found) => vec![format!(
                "the reply came to {reply} after {:.1?}, later than the timeout of {timeout:?}",
                found.after
            )],
            None if self.unusable.lines.is_empty() => vec![format!("no reply came to {reply} within {timeout:?}")],
            None => vec!["no usable reply came".to_owned()],
        };
        self.unusable.add_to(&mut lines);
        self.without_id.add_to(&mut lines);
        if self.others > 0 && self.reply.is_none() {
            lines.push(format!(
                "{} replies with other ids came to {reply}: to other requests, or the service makes ids of its own",
                self.others
            ));
        }
        self.add_workers(&mut lines);
        lines
    }

    fn add_workers(&self, lines: &mut Vec<String>) {
        let Expected { request, reply, .. } = &self.expected;
        if self.workers.is_empty() {
            lines.push(format!(
                "no worker announced topic {}: none is running, or the service does not use the worker library",
                request.topic
            ));
            return;
        }
        let mut workers = Lines::default();
        for (heartbeat, topics) in self.workers.values() {
            workers.push(|| {
                let Heartbeat {
                    in_flight,
                    handled,
                    failed,
                    ..
                } = heartbeat;
                let mut line = format!(
                    "{} announced the topic: in flight {in_flight}, handled {handled}, failed {failed}",
                    worker(heartbeat)
                );
                if !topics.contains(&*reply.topic) {
                    let _ = write!(
                        line,
                        "; it sends no heartbeats to {}: its REPLY_TOPICS must allow replies there",
                        reply.topic
                    );
                }
                line
            });
        }
        workers.add_to(lines);
        let reads_partition = |heartbeat: &Heartbeat| {
            let partitions = heartbeat.partitions.get(&*request.topic);
            partitions.is_none_or(|partitions| partitions.contains(&request.partition))
        };
        if !self.workers.values().any(|(heartbeat, _)| reads_partition(heartbeat)) {
            lines.push(format!("none of them reads {request}"));
        }
    }
}

/// What the committed offset of a group says. `end` is the end of the partition.
pub(super) fn lag(
    group: &str,
    request: &TopicPartition,
    committed: Option<i64>,
    request_offset: Option<i64>,
    end: Option<i64>,
) -> String {
    let Some(committed) = committed else {
        return format!("group {group:?} has no committed offset in {request}: it has not read this partition");
    };
    let lag = end.map_or_else(String::new, |end| format!(", lag {}", (end - committed).max(0)));
    match request_offset {
        Some(offset) if committed > offset => format!(
            "group {group:?} is past the request (committed offset {committed}{lag}): it was read, and no reply to it came"
        ),
        Some(offset) => format!(
            "group {group:?} is not past the request at offset {offset} (committed offset {committed}{lag}): it was not read, or \
             is being handled"
        ),
        None => format!("group {group:?} has committed offset {committed} in {request}{lag}"),
    }
}

/// A worker by its name and version, or by its id.
fn worker(heartbeat: &Heartbeat) -> String {
    let Heartbeat { name, version, id, .. } = heartbeat;
    match (name.as_str(), version.as_str()) {
        ("", _) => format!("worker {}", shown(id.as_bytes())),
        (name, "") => format!("worker {}", shown(name.as_bytes())),
        (name, version) => format!("worker {} {}", shown(name.as_bytes()), shown(version.as_bytes())),
    }
}

/// Untrusted bytes in quotes, escaped and bounded.
pub(super) fn shown(bytes: &[u8]) -> String {
    let shown = bytes.get(..SHOWN_BYTES).unwrap_or(bytes);
    let more = if shown.len() < bytes.len() { "…" } else { "" };
    format!("\"{}{more}\"", shown.escape_ascii())
}

// === impl Lines ===

impl Lines {
    fn push(&mut self, line: impl FnOnce() -> String) {
        if self.lines.len() < MAX_LINES {
            self.lines.push(line());
        } else {
            self.more += 1;
        }
    }

    fn add_to(&self, lines: &mut Vec<String>) {
        lines.extend(self.lines.iter().cloned());
        if self.more > 0 {
            lines.push(format!("… and {} more like these", self.more));
        }
    }
}

#[cfg(test)]
mod tests;
