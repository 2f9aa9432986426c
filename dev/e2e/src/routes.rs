//! A file of routes for one test, with topics of its own.

use std::{env, fs, path::PathBuf};

use rskafka::record::Record;
use uuid::Uuid;

use crate::{
    process::{Process, Setup},
    topic::{Topic, create, record},
};

/// A file of routes, removed at the drop.
#[derive(Debug)]
pub struct RoutesFile {
    brokers: String,
    unique: String,
    path: PathBuf,
    /// The names of the health checks of its topics.
    checks: Vec<String>,
}

// === impl RoutesFile ===

impl RoutesFile {
    /// A file with this text, in which `@` before a name of a topic makes it unique.
    ///
    /// # Panics
    /// When the file cannot be written.
    #[must_use]
    pub fn new(brokers: &str, text: &str) -> Self {
        let unique = Uuid::new_v4().simple().to_string();
        let path = env::temp_dir().join(format!("routes-{unique}.toml"));
        let checks = text.lines().filter_map(|line| {
            let (key, topic) = line.split_once(" = \"@")?;
            let check = match key {
                "topic" => "requests to",
                "reply_topic" => "replies in",
                _ => return None,
            };
            Some(format!("{check} {unique}-{}", topic.split('"').next()?))
        });
        let checks = checks.collect();
        fs::write(&path, text.replace('@', &format!("{unique}-"))).expect("the file can be written");
        Self {
            brokers: brokers.to_owned(),
            unique,
            path,
            checks,
        }
    }

    /// Starts a gateway with these routes, and waits until it can use all topics. It is ready as soon as one route is.
    pub async fn ready(&self, gateway: Setup) -> Process {
        let gateway = gateway.ready().await;
        for check in &self.checks {
            gateway.until_logged(&format!(": ready health_check=\"{check}\"")).await;
        }
        gateway
    }

    /// Its path.
    #[must_use]
    pub fn path(&self) -> &str {
        self.path.to_str().expect("the path is UTF-8")
    }

    /// The unique name of a topic.
    #[must_use]
    pub fn name(&self, topic: &str) -> String {
        format!("{}-{topic}", self.unique)
    }

    /// Creates a topic with so many partitions.
    pub async fn create(&self, topic: &str, partitions: i32) {
        create(&self.brokers, &self.name(topic), partitions).await;
    }

    /// Connects to partition 0 of a topic, and creates it where it is missing.
    pub async fn topic(&self, topic: &str) -> Topic {
        Topic::open(&self.brokers, &self.name(topic)).await
    }

    /// Connects to a partition of a topic.
    pub async fn partition(&self, topic: &str, partition: i32) -> Topic {
        Topic::partition(&self.brokers, &self.name(topic), partition).await
    }

    /// A gateway with these routes.
    #[must_use]
    pub fn gateway(&self) -> Setup {
        Setup::gateway()
            .set("KAFKA_BROKERS", &self.brokers)
            .set("ROUTES", &self.path)
    }
}

impl Drop for RoutesFile {
    fn drop(&mut self) {
        // An error means that it is gone.
        let _ = fs::remove_file(&self.path);
    }
}

/// A reply to a request: its correlation id, these headers and this value.
///
/// # Panics
/// When the request has no correlation id.
#[must_use]
pub fn reply_to(request: &Record, headers: &[(&str, &str)], value: &[u8]) -> Record {
    let mut reply = record(None, Some(value));
    let id = request.headers.get("kafka_correlationId").expect("it has an id");
    reply.headers.insert("kafka_correlationId".to_owned(), id.clone());
    for (name, value) in headers {
        reply.headers.insert((*name).to_owned(), value.as_bytes().to_vec());
    }
    reply
}

/// A header of a record, as text.
///
/// # Panics
/// When it is missing.
#[must_use]
pub fn header(record: &Record, name: &str) -> String {
    let value = record.headers.get(name);
    let value = value.unwrap_or_else(|| panic!("{record:?} has no {name}"));
    String::from_utf8_lossy(value).into_owned()
}
