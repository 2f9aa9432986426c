//! The groups of settings in `--help`.

/// Where the brokers are.
pub const KAFKA: &str = "Kafka";

/// TLS and SASL.
pub const LOGIN: &str = "TLS and login to Kafka";

/// Topics, partitions, groups and record headers.
pub const TOPICS: &str = "Topics and partitions";

/// HTTP requests and their bounds.
pub const HTTP: &str = "HTTP";

/// Logs, health and shutdown.
pub const PROCESS: &str = "Process";
