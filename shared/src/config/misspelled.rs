//! Finds environment variables whose names are one or two letters off a setting.
//!
//! - Variables of other programs must not be reported. So settings of one word, such as `PARTITIONS`, are not compared:
//!   `PARTITION` may be anybody's.
//! - Values are not looked at: they may be secrets.

use strsim::damerau_levenshtein;

/// The shortest name in which two letters may differ. In a shorter one it is one letter.
const TWO_LETTERS_FROM: usize = 10;

/// The variables that are no setting but resemble one: `NAME (did you mean SETTING?)`, sorted.
pub(super) fn find(variables: impl Iterator<Item = String>, settings: &[&str]) -> Vec<String> {
    let mut found: Vec<_> = variables
        .filter(|name| !settings.contains(&name.as_str()))
        .filter_map(|name| {
            let setting = nearest(&name, settings)?;
            Some(format!("{name} (did you mean {setting}?)"))
        })
        .collect();
    found.sort_unstable();
    found
}

/// The setting that the name resembles, regardless of case.
fn nearest<'a>(name: &str, settings: &[&'a str]) -> Option<&'a str> {
    let name = name.to_ascii_uppercase();
    let candidates = settings.iter().filter(|setting| setting.contains('_'));
    candidates
        .map(|setting| (damerau_levenshtein(&name, setting), *setting))
        .filter(|(distance, setting)| *distance <= if setting.len() < TWO_LETTERS_FROM { 1 } else { 2 })
        .min()
        .map(|(_, setting)| setting)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The settings of gateway and worker.
    const SETTINGS: &[&str] = &[
        "KAFKA_BROKERS",
        "KAFKA_CLIENT_ID",
        "KAFKA_SECURITY_PROTOCOL",
        "KAFKA_SASL_MECHANISM",
        "KAFKA_SASL_USERNAME",
        "KAFKA_SASL_PASSWORD",
        "KAFKA_SASL_PASSWORD_FILE",
        "KAFKA_SASL_OAUTHBEARER_TOKEN_FILE",
        "KAFKA_SSL_CA_LOCATION",
        "KAFKA_SSL_CERTIFICATE_LOCATION",
        "KAFKA_SSL_KEY_LOCATION",
        "PING_TOPIC",
        "PONG_TOPIC",
        "DRAIN_TIMEOUT",
        "RUST_LOG",
        "LOG_FORMAT",
        "HTTP_ADDR",
        "ADMIN_ADDR",
        "ROUTES",
        "CREATE_TOPICS",
        "REPLY_TIMEOUT",
        "REQUEST_PARTITIONS",
        "REPLY_PARTITION",
        "HOSTNAME",
        "WIRE_HEADERS",
        "MAX_IN_FLIGHT",
        "MAX_CONNECTIONS",
        "HEADER_TIMEOUT",
        "IDLE_TIMEOUT",
        "MAX_BODY",
        "PARTITIONS",
        "WORKER_GROUP",
        "POSITION_GROUP",
        "START_FROM",
        "ANNOUNCE_INTERVAL",
        "TOPICS",
        "REPLY_TOPICS",
        "FORWARD_TO",
        "CONCURRENCY",
        "DEAD_LETTER_TOPIC",
    ];

    /// Variables of shells, container platforms, runtimes, and of Kafka's images.
    const USUAL: &str = "
        PATH HOME USER LOGNAME SHELL PWD OLDPWD TERM LANG LC_ALL LC_CTYPE TZ TMPDIR EDITOR PAGER DISPLAY MAIL SHLVL _
        HOST HOSTNAME HOST_NAME HOSTNAMES PORT ADDR ADDRESS NAME DEBUG LOG_LEVEL LOGLEVEL LOG_FILE LOG_PATH LOG_DIR
        LOG_DIRS LOG_COLOR PARTITION TOPIC ROUTE GROUP TIMEOUT BROKER BROKERS CONCURRENT_REQUESTS WEB_CONCURRENCY
        HTTP_PROXY HTTPS_PROXY NO_PROXY ALL_PROXY http_proxy https_proxy no_proxy HTTP_PORT HTTP_HOST HTTP_ADDRESS
        ADMIN_PORT ADMIN_USER ADMIN_PASSWORD ADMIN_ADDRESS MAX_SIZE MAX_MEMORY MAX_JOBS BODY_LIMIT
        RUST_BACKTRACE RUST_LIB_BACKTRACE RUST_MIN_STACK RUST_LOG_STYLE RUSTFLAGS RUSTUP_HOME CARGO_HOME CARGO_TARGET_DIR
        SSL_CERT_FILE SSL_CERT_DIR SSLKEYLOGFILE CI DEBIAN_FRONTEND GITHUB_REF GITHUB_RUN_ID
        JAVA_HOME JAVA_OPTS JAVA_TOOL_OPTIONS CLASSPATH MAVEN_OPTS PYTHONPATH GOPATH NODE_ENV NODE_OPTIONS
        KUBERNETES_PORT KUBERNETES_PORT_443_TCP KUBERNETES_PORT_443_TCP_ADDR KUBERNETES_PORT_443_TCP_PORT
        KUBERNETES_PORT_443_TCP_PROTO KUBERNETES_SERVICE_HOST KUBERNETES_SERVICE_PORT KUBERNETES_SERVICE_PORT_HTTPS
        KAFKA_SERVICE_HOST KAFKA_SERVICE_PORT KAFKA_SERVICE_PORT_CLIENT KAFKA_PORT KAFKA_PORT_9092_TCP
        KAFKA_PORT_9092_TCP_ADDR KAFKA_PORT_9092_TCP_PORT KAFKA_PORT_9092_TCP_PROTO KAFKA_BROKERS_PORT
        KAFKA_BROKERS_SERVICE_HOST KAFKA_BROKERS_SERVICE_PORT KAFKA_BROKER_PORT KAFKA_BROKER_SERVICE_HOST
        PING_PORT PING_SERVICE_HOST PONG_PORT WORKER_PORT WORKER_SERVICE_HOST GATEWAY_PORT GATEWAY_SERVICE_HOST
        POD_NAME POD_IP POD_NAMESPACE NODE_NAME NAMESPACE SERVICE_NAME CONTAINER_NAME HOST_IP
        KAFKA_HOME KAFKA_OPTS KAFKA_HEAP_OPTS KAFKA_JVM_PERFORMANCE_OPTS KAFKA_GC_LOG_OPTS KAFKA_LOG4J_OPTS
        KAFKA_JMX_OPTS KAFKA_JMX_PORT KAFKA_JMX_HOSTNAME KAFKA_VERSION SCALA_VERSION KAFKA_DEBUG KAFKA_CLASSPATH
        KAFKA_BROKER_ID KAFKA_NODE_ID KAFKA_PROCESS_ROLES KAFKA_LISTENERS KAFKA_LISTENER_NAMES KAFKA_LOG_DIRS
        KAFKA_ADVERTISED_LISTENERS KAFKA_ADVERTISED_HOST_NAME KAFKA_ZOOKEEPER_CONNECT KAFKA_CREATE_TOPICS
        KAFKA_CONTROLLER_QUORUM_VOTERS KAFKA_CONTROLLER_LISTENER_NAMES KAFKA_LISTENER_SECURITY_PROTOCOL_MAP
        KAFKA_INTER_BROKER_LISTENER_NAME KAFKA_SECURITY_INTER_BROKER_PROTOCOL KAFKA_SASL_ENABLED_MECHANISMS
        KAFKA_SASL_MECHANISM_INTER_BROKER_PROTOCOL KAFKA_SASL_JAAS_CONFIG KAFKA_SSL_KEYSTORE_LOCATION
        KAFKA_SSL_KEYSTORE_FILENAME KAFKA_SSL_KEYSTORE_PASSWORD KAFKA_SSL_KEY_PASSWORD KAFKA_SSL_KEY_CREDENTIALS
        KAFKA_SSL_TRUSTSTORE_LOCATION KAFKA_SSL_TRUSTSTORE_PASSWORD KAFKA_SSL_CLIENT_AUTH KAFKA_MESSAGE_MAX_BYTES
        KAFKA_NUM_PARTITIONS KAFKA_DEFAULT_REPLICATION_FACTOR KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR
        KAFKA_AUTO_CREATE_TOPICS_ENABLE KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS KAFKA_LOG4J_LOGGERS
        KAFKA_LOG4J_ROOT_LOGLEVEL KAFKA_TOOLS_LOG4J_LOGLEVEL KAFKA_REST_HOST_NAME KAFKA_REST_BOOTSTRAP_SERVERS
        KAFKA_BOOTSTRAP_SERVERS KAFKA_CLUSTER_ID CLUSTER_ID CUB_CLASSPATH COMPONENT CONFLUENT_VERSION
        CONNECT_BOOTSTRAP_SERVERS CONNECT_SECURITY_PROTOCOL CONNECT_SASL_MECHANISM CONNECT_GROUP_ID
        SCHEMA_REGISTRY_HOST_NAME SCHEMA_REGISTRY_LISTENERS
        KAFKA_CFG_NODE_ID KAFKA_CFG_PROCESS_ROLES KAFKA_CFG_LISTENERS KAFKA_CFG_ADVERTISED_LISTENERS
        KAFKA_CFG_CONTROLLER_QUORUM_VOTERS KAFKA_CFG_SASL_ENABLED_MECHANISMS KAFKA_CFG_LOG_DIRS
        KAFKA_CLIENT_USERS KAFKA_CLIENT_PASSWORDS KAFKA_CLIENT_LISTENER_NAME KAFKA_INTER_BROKER_USER
        KAFKA_INTER_BROKER_PASSWORD KAFKA_CONTROLLER_USER KAFKA_CONTROLLER_PASSWORD KAFKA_CERTIFICATE_PASSWORD
        KAFKA_TLS_TYPE KAFKA_TLS_CLIENT_AUTH KAFKA_KRAFT_CLUSTER_ID KAFKA_KRAFT_BOOTSTRAP_SCRAM_USERS
        KAFKA_VOLUME_DIR KAFKA_DATA_DIR KAFKA_LOGS_DIR KAFKA_BASE_DIR KAFKA_CONF_DIR KAFKA_MOUNTED_CONF_DIR
        KAFKA_DAEMON_USER KAFKA_DAEMON_GROUP KAFKA_EXTRA_FLAGS KAFKA_SKIP_KRAFT_STORAGE_INIT ALLOW_PLAINTEXT_LISTENER
        BITNAMI_DEBUG BITNAMI_APP_NAME APP_VERSION OS_ARCH OS_FLAVOUR OS_NAME
    ";

    fn found(names: &[&str]) -> Vec<String> {
        find(names.iter().map(|name| (*name).to_owned()), SETTINGS)
    }

    #[test]
    fn misspelled_setting_is_found() {
        for (name, setting) in [
            ("KAFKA_BROKER", "KAFKA_BROKERS"),
            ("KAFKA_BOKERS", "KAFKA_BROKERS"),
            ("KAFKA_BORKERS", "KAFKA_BROKERS"),
            ("KAFKABROKER", "KAFKA_BROKERS"),
            ("kafka_brokers", "KAFKA_BROKERS"),
            ("KAFKA_SASL_MECHANISMS", "KAFKA_SASL_MECHANISM"),
            ("PINGTOPIC", "PING_TOPIC"),
            ("PING_TOPCI", "PING_TOPIC"),
            ("HTTP_ADRR", "HTTP_ADDR"),
            ("RUSTLOG", "RUST_LOG"),
            ("REPLY_TIMOUT", "REPLY_TIMEOUT"),
            ("MAX_INFLIGHT", "MAX_IN_FLIGHT"),
            ("MAXBODY", "MAX_BODY"),
        ] {
            assert_eq!(found(&[name]), [format!("{name} (did you mean {setting}?)")]);
        }
    }

    #[test]
    fn settings_and_usual_variables_are_not_reported() {
        let usual: Vec<_> = USUAL.split_whitespace().collect();
        assert!(usual.len() > 200, "{}", usual.len());
        assert_eq!(found(&usual), [""; 0]);
        assert_eq!(found(SETTINGS), [""; 0]);
    }

    /// One environment file may serve both binaries: a setting of one must not resemble another setting.
    #[test]
    fn settings_do_not_resemble_each_other() {
        let similar = [["PING_TOPIC", "PONG_TOPIC"], ["PONG_TOPIC", "PING_TOPIC"]];
        for setting in SETTINGS {
            let others: Vec<_> = SETTINGS.iter().copied().filter(|other| other != setting).collect();
            if let Some(other) = nearest(setting, &others) {
                // Both binaries have both.
                assert!(similar.contains(&[setting, other]), "{setting} resembles {other}");
            }
        }
    }
}
