//! What the routes of a file must not say of each other: the same requests twice, or different things of one topic.

use super::{Router, file::Problems, parse::Parsed};

/// The bound on reply topics. Each costs a connection and a consumer.
const MAX_REPLY_TOPICS: usize = 16;

/// Topics that routes share.
pub(super) fn check_topics(parsed: &[Parsed], problems: &mut Problems<'_>) {
    let mut reply_topics: Vec<&str> = Vec::new();
    for (index, this) in parsed.iter().enumerate() {
        let before = parsed.get(..index).unwrap_or_default();
        if let Some(other) = before.iter().find(|other| other.route.topic == this.route.topic)
            && other.route.partitions != this.route.partitions
        {
            let text = format!(
                "partitions: line {} writes to other partitions of topic {:?}: the routes of a topic must agree",
                problems.line(&other.topic),
                this.route.topic
            );
            problems.add(&this.partitions, text);
        }
        let as_reply_topic = |other: &&Parsed| other.route.reply_topic.as_ref() == Some(&this.route.topic);
        let is_own = this.route.reply_topic.as_ref() == Some(&this.route.topic);
        if let Some(other) = parsed.iter().find(as_reply_topic).filter(|_| !is_own) {
            let text = format!(
                "topic {:?} is the reply topic of line {}: they must be different topics",
                this.route.topic,
                problems.line(&other.on)
            );
            problems.add(&this.topic, text);
        }
        let Some(reply_topic) = this.route.reply_topic.as_deref() else {
            continue;
        };
        if !reply_topics.contains(&reply_topic) {
            reply_topics.push(reply_topic);
            if reply_topics.len() == MAX_REPLY_TOPICS + 1 {
                problems.add(&this.on, format!("there are more than {MAX_REPLY_TOPICS} reply topics"));
            }
        }
    }
}

/// The router of all routes. Two routes with the same requests are a problem.
pub(super) fn router(parsed: &[Parsed], problems: &mut Problems<'_>) -> Router {
    let mut router = Router::default();
    for (index, this) in parsed.iter().enumerate() {
        let inserted = router.insert(&this.path, &this.methods, this.route.contract, index);
        if let Err(conflict) = inserted
            && let Some(other) = parsed.get(conflict.with)
        {
            let text = format!(
                "the same requests as line {}, {}",
                problems.line(&other.on),
                other.route.on
            );
            problems.add_value("on", &this.on, &text);
        }
    }
    router
}
