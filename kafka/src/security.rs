//! How the brokers are reached: in the open or over TLS, with or without a login.
//!
//! Made once from the settings, which are checked then. The files that they name are read again for each connection, so
//! that certificates, passwords and tokens can be replaced without a restart. Nothing turns the verification of a
//! certificate off.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use shared::config::{KafkaSettings, SaslMechanism, Secret};

use crate::tls::{CpuFeature, Tls, cpu_features};

/// What a connection needs beside the address. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Security {
    pub(crate) tls: Option<Arc<Tls>>,
    pub(crate) sasl: Option<Arc<Sasl>>,
}

/// How to log in.
#[derive(Debug)]
pub(crate) struct Sasl {
    pub(crate) mechanism: SaslMechanism,
    credentials: Credentials,
}

#[derive(Debug)]
enum Credentials {
    Password { username: String, password: Source },
    Token(PathBuf),
}

/// Where a password comes from.
#[derive(Debug)]
enum Source {
    Setting(Secret),
    File(PathBuf),
}

/// What a login says. Never shown.
pub(crate) enum Login {
    Password { username: String, password: String },
    Token(String),
}

/// A file of credentials cannot be read, or has nothing in it.
#[derive(Debug, thiserror::Error)]
#[error("{setting}: {} cannot be used", path.display())]
pub(crate) struct CredentialError {
    setting: &'static str,
    path: PathBuf,
    source: io::Error,
}

// === impl Security ===

impl Security {
    /// Checks the settings, the files that they name, and whether this processor can do TLS if it is needed.
    ///
    /// # Errors
    /// One line that names the setting, its value and what is allowed.
    pub fn new(settings: &KafkaSettings) -> Result<Self, String> {
        Self::on_processor(settings, &cpu_features())
    }

    fn on_processor(settings: &KafkaSettings, features: &[CpuFeature]) -> Result<Self, String> {
        let protocol = settings.kafka_security_protocol;
        let tls = protocol
            .has_tls()
            .then(|| Tls::new(settings, features))
            .transpose()?
            .map(Arc::new);
        let sasl = protocol
            .has_sasl()
            .then(|| Sasl::new(settings))
            .transpose()?
            .map(Arc::new);
        if !protocol.has_sasl()
            && let Some(name) = settings.first_sasl_setting()
        {
            return Err(format!(
                "{name}: is only allowed with KAFKA_SECURITY_PROTOCOL=SASL_PLAINTEXT or SASL_SSL; it is {protocol}"
            ));
        }
        if !protocol.has_tls()
            && let Some(name) = settings.first_ssl_setting()
        {
            return Err(format!(
                "{name}: is only allowed with KAFKA_SECURITY_PROTOCOL=SSL or SASL_SSL; it is {protocol}"
            ));
        }
        Ok(Self { tls, sasl })
    }

    /// Who we are to the brokers, as far as this process knows.
    pub(crate) fn user(&self) -> String {
        match (&self.sasl, &self.tls) {
            (Some(sasl), _) => match sasl.username() {
                Some(username) => format!("user {username}"),
                None => "the user of the token".to_owned(),
            },
            (None, Some(tls)) if tls.has_identity() => "the user of the certificate".to_owned(),
            _ => "this client".to_owned(),
        }
    }
}

// === impl Sasl ===

impl Sasl {
    fn new(settings: &KafkaSettings) -> Result<Self, String> {
        let Some(mechanism) = settings.kafka_sasl_mechanism else {
            return Err(format!(
                "KAFKA_SASL_MECHANISM: is not set: with KAFKA_SECURITY_PROTOCOL={} it must be one of {}",
                settings.kafka_security_protocol,
                SaslMechanism::NAMES.join(", "),
            ));
        };
        let credentials = match mechanism {
            SaslMechanism::OauthBearer => {
                let Some(path) = settings.kafka_sasl_oauthbearer_token_file.clone() else {
                    return Err(format!(
                        "KAFKA_SASL_OAUTHBEARER_TOKEN_FILE: is not set: with KAFKA_SASL_MECHANISM={mechanism} it must be a file \
                         that holds the token"
                    ));
                };
                Credentials::Token(path)
            }
            _ => password_credentials(settings, mechanism)?,
        };
        let sasl = Self { mechanism, credentials };
        sasl.login()
            .map_err(|error| shared::error_chain::ErrorChain(&error).to_string())?;
        Ok(sasl)
    }

    /// The user that logs in, where a password does.
    pub(crate) fn username(&self) -> Option<&str> {
        match &self.credentials {
            Credentials::Password { username, .. } => Some(username),
            Credentials::Token(_) => None,
        }
    }

    /// Reads what a login says now.
    ///
    /// # Errors
    /// When a file cannot be read, or is empty.
    pub(crate) fn login(&self) -> Result<Login, CredentialError> {
        Ok(match &self.credentials {
            Credentials::Password { username, password } => Login::Password {
                username: username.clone(),
                password: match password {
                    Source::Setting(secret) => secret.expose().to_owned(),
                    Source::File(path) => read_secret("KAFKA_SASL_PASSWORD_FILE", path)?,
                },
            },
            Credentials::Token(path) => Login::Token(read_secret("KAFKA_SASL_OAUTHBEARER_TOKEN_FILE", path)?),
        })
    }
}

fn password_credentials(settings: &KafkaSettings, mechanism: SaslMechanism) -> Result<Credentials, String> {
    let Some(username) = settings.kafka_sasl_username.clone() else {
        return Err(format!(
            "KAFKA_SASL_USERNAME: is not set: KAFKA_SASL_MECHANISM={mechanism} needs a user"
        ));
    };
    let password = match (&settings.kafka_sasl_password, &settings.kafka_sasl_password_file) {
        (Some(_), Some(_)) => {
            return Err("KAFKA_SASL_PASSWORD, KAFKA_SASL_PASSWORD_FILE: only one of them is allowed".to_owned());
        }
        (Some(password), None) => Source::Setting(password.clone()),
        (None, Some(path)) => Source::File(path.clone()),
        (None, None) => {
            return Err(format!(
                "KAFKA_SASL_PASSWORD: is not set: KAFKA_SASL_MECHANISM={mechanism} needs a password; or set \
                 KAFKA_SASL_PASSWORD_FILE"
            ));
        }
    };
    Ok(Credentials::Password { username, password })
}

/// What a file holds, without the end of its last line.
fn read_secret(setting: &'static str, path: &Path) -> Result<String, CredentialError> {
    let read = fs::read_to_string(path).and_then(|text| {
        let text = text.trim_end_matches(['\r', '\n']);
        if text.is_empty() {
            Err(io::Error::other("it is empty"))
        } else {
            Ok(text.to_owned())
        }
    });
    read.map_err(|source| CredentialError {
        setting,
        path: path.to_owned(),
        source,
    })
}

// === impl Login ===

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Login(..)")
    }
}

// === impl CredentialError ===

impl CredentialError {
    pub(crate) fn new(setting: &'static str, path: &Path, source: io::Error) -> Self {
        Self {
            setting,
            path: path.to_owned(),
            source,
        }
    }
}

#[cfg(test)]
mod tests;
