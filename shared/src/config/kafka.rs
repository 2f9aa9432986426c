//! Settings of the Kafka client: where the brokers are, and how to log in. The names are librdkafka's, upper case, with
//! `KAFKA_` before them.

use std::{
    fmt::{self, Display},
    path::PathBuf,
};

use clap::ValueEnum;

use super::heading;

/// Where the brokers are, and how they are reached.
#[derive(Debug, Clone, clap::Args)]
pub struct KafkaSettings {
    /// Kafka brokers to start from, host:port, separated by commas
    #[arg(long, env, default_value = "kafka:9092", value_delimiter = ',', value_parser = super::broker, help_heading = heading::KAFKA, global = true)]
    pub kafka_brokers: Vec<String>,

    /// How this process calls itself in the brokers' logs and quotas [default: its name]
    #[arg(long, env, value_parser = client_id, help_heading = heading::KAFKA, global = true)]
    pub kafka_client_id: Option<String>,

    /// Protocol
    #[arg(long, env, default_value = "PLAINTEXT", ignore_case = true, help_heading = heading::KAFKA, global = true)]
    pub kafka_security_protocol: SecurityProtocol,

    /// How to log in
    #[arg(long, env, ignore_case = true, help_heading = heading::LOGIN, global = true)]
    pub kafka_sasl_mechanism: Option<SaslMechanism>,

    /// The user that logs in
    #[arg(long, env, help_heading = heading::LOGIN, global = true)]
    pub kafka_sasl_username: Option<String>,

    /// The password of the user
    #[arg(long, env, hide_env_values = true, value_parser = secret, help_heading = heading::LOGIN, global = true)]
    pub kafka_sasl_password: Option<Secret>,

    /// File with the password of the user; it is read again for each connection
    #[arg(long, env, help_heading = heading::LOGIN, global = true)]
    pub kafka_sasl_password_file: Option<PathBuf>,

    /// File with the token for OAUTHBEARER; it is read again for each connection
    #[arg(long, env, help_heading = heading::LOGIN, global = true)]
    pub kafka_sasl_oauthbearer_token_file: Option<PathBuf>,

    /// PEM file with the certificate authorities to trust [default: those of Mozilla, built in]
    #[arg(long, env, help_heading = heading::LOGIN, global = true)]
    pub kafka_ssl_ca_location: Option<PathBuf>,

    /// PEM file with the certificate of this client, and those that signed it
    #[arg(long, env, help_heading = heading::LOGIN, global = true)]
    pub kafka_ssl_certificate_location: Option<PathBuf>,

    /// PEM file with the key of that certificate, without a passphrase
    #[arg(long, env, help_heading = heading::LOGIN, global = true)]
    pub kafka_ssl_key_location: Option<PathBuf>,
}

/// How the brokers are reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SecurityProtocol {
    /// TCP.
    #[value(name = "PLAINTEXT")]
    Plaintext,
    /// TLS.
    #[value(name = "SSL")]
    Ssl,
    /// TCP, with a login.
    #[value(name = "SASL_PLAINTEXT")]
    SaslPlaintext,
    /// TLS, with a login.
    #[value(name = "SASL_SSL")]
    SaslSsl,
}

/// How to log in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SaslMechanism {
    /// User and password as they are (RFC 4616).
    #[value(name = "PLAIN")]
    Plain,
    /// A proof of the password (RFC 7677).
    #[value(name = "SCRAM-SHA-256")]
    ScramSha256,
    /// The same with a longer hash.
    #[value(name = "SCRAM-SHA-512")]
    ScramSha512,
    /// A token (RFC 7628).
    #[value(name = "OAUTHBEARER")]
    OauthBearer,
}

/// A value that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

// === impl KafkaSettings ===

impl KafkaSettings {
    /// The name of a setting for logins that is set.
    #[must_use]
    pub fn first_sasl_setting(&self) -> Option<&'static str> {
        [
            ("KAFKA_SASL_MECHANISM", self.kafka_sasl_mechanism.is_some()),
            ("KAFKA_SASL_USERNAME", self.kafka_sasl_username.is_some()),
            ("KAFKA_SASL_PASSWORD", self.kafka_sasl_password.is_some()),
            ("KAFKA_SASL_PASSWORD_FILE", self.kafka_sasl_password_file.is_some()),
            (
                "KAFKA_SASL_OAUTHBEARER_TOKEN_FILE",
                self.kafka_sasl_oauthbearer_token_file.is_some(),
            ),
        ]
        .into_iter()
        .find_map(|(name, is_set)| is_set.then_some(name))
    }

    /// The name of a setting for TLS that is set.
    #[must_use]
    pub fn first_ssl_setting(&self) -> Option<&'static str> {
        [
            ("KAFKA_SSL_CA_LOCATION", self.kafka_ssl_ca_location.is_some()),
            (
                "KAFKA_SSL_CERTIFICATE_LOCATION",
                self.kafka_ssl_certificate_location.is_some(),
            ),
            ("KAFKA_SSL_KEY_LOCATION", self.kafka_ssl_key_location.is_some()),
        ]
        .into_iter()
        .find_map(|(name, is_set)| is_set.then_some(name))
    }
}

// === impl SecurityProtocol ===

impl SecurityProtocol {
    /// Whether it is over TLS.
    #[must_use]
    pub fn has_tls(self) -> bool {
        matches!(self, Self::Ssl | Self::SaslSsl)
    }

    /// Whether it has a login.
    #[must_use]
    pub fn has_sasl(self) -> bool {
        matches!(self, Self::SaslPlaintext | Self::SaslSsl)
    }
}

impl Display for SecurityProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plaintext => "PLAINTEXT",
            Self::Ssl => "SSL",
            Self::SaslPlaintext => "SASL_PLAINTEXT",
            Self::SaslSsl => "SASL_SSL",
        })
    }
}

// === impl SaslMechanism ===

impl SaslMechanism {
    /// The names of all of them.
    pub const NAMES: [&'static str; 4] = ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"];

    /// Its name, as IANA has it.
    #[must_use]
    pub fn name(self) -> &'static str {
        let [plain, scram_256, scram_512, oauth_bearer] = Self::NAMES;
        match self {
            Self::Plain => plain,
            Self::ScramSha256 => scram_256,
            Self::ScramSha512 => scram_512,
            Self::OauthBearer => oauth_bearer,
        }
    }
}

impl Display for SaslMechanism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

// === impl Secret ===

impl Secret {
    /// The value, for the one place that needs it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

#[expect(clippy::unnecessary_wraps, reason = "what clap wants")]
fn secret(text: &str) -> Result<Secret, String> {
    Ok(Secret(text.to_owned()))
}

/// What brokers take without escaping it in the names of their metrics.
fn client_id(text: &str) -> Result<String, String> {
    let is_legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if matches!(text.len(), 1..=249) && text.bytes().all(is_legal) {
        return Ok(text.to_owned());
    }
    Err("a name: 1 to 249 of a-z A-Z 0-9 . _ -".to_owned())
}
