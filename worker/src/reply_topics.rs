//! The topics that replies may go to: a request must not make the worker write with its rights wherever a client likes.

use shared::config;

/// One entry of the list: a name, or the beginning of names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ReplyTopic {
    Name(String),
    Prefix(String),
}

/// The allow-list.
#[derive(Debug, Clone)]
pub(crate) struct ReplyTopics {
    allowed: Vec<ReplyTopic>,
    /// The topics that this worker reads. A reply there would be a request again.
    read: Vec<String>,
}

// === impl ReplyTopic ===

impl ReplyTopic {
    /// Parses a name, or the beginning of names with `*` behind it.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let name = text.strip_suffix('*').unwrap_or(text);
        match text.ends_with('*') {
            true if name.is_empty() => Ok(Self::Prefix(String::new())),
            true if config::is_topic_name(name) => Ok(Self::Prefix(name.to_owned())),
            false if config::is_topic_name(name) => Ok(Self::Name(name.to_owned())),
            _ => Err("names of topics separated by commas; each may end in *".to_owned()),
        }
    }

    fn allows(&self, topic: &str) -> bool {
        match self {
            Self::Name(name) => topic == name,
            Self::Prefix(prefix) => topic.starts_with(prefix),
        }
    }
}

// === impl ReplyTopics ===

impl ReplyTopics {
    pub(crate) fn new(allowed: Vec<ReplyTopic>, read: Vec<String>) -> Self {
        Self { allowed, read }
    }

    /// Whether a reply may go to a topic.
    pub(crate) fn allows(&self, topic: &str) -> bool {
        let is_allowed = self.allowed.iter().any(|allowed| allowed.allows(topic));
        is_allowed && !self.read.iter().any(|read| read == topic)
    }

    /// The names in the list, without those that only begin a name.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.allowed.iter().filter_map(|allowed| match allowed {
            ReplyTopic::Name(name) => Some(name.as_str()),
            ReplyTopic::Prefix(_) => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topics(list: &str) -> ReplyTopics {
        let allowed = list.split(',').map(|text| ReplyTopic::parse(text).unwrap());
        ReplyTopics::new(allowed.collect(), vec!["replies-orders".to_owned()])
    }

    #[test]
    fn only_listed_topics_are_allowed() {
        let topics = topics("pong, replies-*");
        for allowed in ["pong", "replies-", "replies-a"] {
            assert!(topics.allows(allowed), "{allowed}");
        }
        for refused in ["pong2", "Pong", "replies", "", "orders"] {
            assert!(!topics.allows(refused), "{refused}");
        }
        assert_eq!(topics.names().collect::<Vec<_>>(), ["pong"]);
    }

    #[test]
    fn topic_that_is_read_is_never_allowed() {
        assert!(!topics("*").allows("replies-orders"));
        assert!(topics("*").allows("other"));
    }

    #[test]
    fn bad_names_are_refused() {
        for bad in ["", "a b", "a*b", "**", "ä*"] {
            assert!(ReplyTopic::parse(bad).is_err(), "{bad:?}");
        }
    }
}
