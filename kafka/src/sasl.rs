//! The login: SASL over Kafka's own calls, with rsasl for the mechanisms.
//!
//! The loop is ours, so that the broker's message reaches the error, and the session's lifetime the connection.

use std::{io::Cursor, sync::Arc, time::Duration};

use bytes::Bytes;
use kafka_protocol::{
    error::ResponseError,
    messages::{SaslAuthenticateRequest, SaslHandshakeRequest},
    protocol::StrBytes,
};
use rsasl::{
    callback::{Context, Request, SessionCallback, SessionData},
    config::SASLConfig,
    prelude::{Mechname, SASLClient, SessionError},
    property::{OAuthBearerKV, OAuthBearerToken},
};

use crate::{
    connection::Connection,
    error::{Error, Failure},
    security::{Login, Sasl},
};

/// How long one step may take.
const STEP_TIMEOUT: Duration = Duration::from_secs(3);

/// Logs in. Gives how long the session lives; `None` when the broker sets no limit.
///
/// # Errors
/// The connection is of no use then.
pub(crate) async fn log_in(connection: &mut Connection, sasl: &Sasl) -> Result<Option<Duration>, Error> {
    let mechanism = sasl.mechanism.name();
    let broker = Arc::clone(connection.broker());
    let refused = |code, message| {
        let user = sasl.username().map(str::to_owned);
        Error::new(&broker, "SaslAuthenticate", Failure::Login { code, user, message })
    };
    let failed = |message: String| refused(ResponseError::SaslAuthenticationFailed, Some(message));
    let login = sasl.login();
    let login = login.map_err(|error| connection.error("SaslAuthenticate", Failure::Credentials(error)))?;
    let config = config(login).map_err(|error| failed(error.to_string()))?;

    let handshake = SaslHandshakeRequest::default().with_mechanism(StrBytes::from_static_str(mechanism));
    let response = connection.call_without_login(STEP_TIMEOUT, handshake).await?;
    if let Some(code) = ResponseError::try_from_code(response.error_code) {
        let offered: Vec<_> = response.mechanisms.iter().map(|name| name.to_string()).collect();
        let failure = Failure::Mechanism {
            code,
            mechanism,
            offered: offered.join(", "),
        };
        return Err(connection.error("SaslHandshake", failure));
    }

    let name = Mechname::parse(mechanism.as_bytes()).map_err(|error| failed(error.to_string()))?;
    let session = SASLClient::new(config).start_suggested(&[name]);
    let mut session = session.map_err(|error| failed(error.to_string()))?;
    let mut received: Option<Bytes> = None;
    let mut lifetime = None;
    loop {
        let mut to_send = Cursor::new(Vec::new());
        let state = session.step(received.as_deref(), &mut to_send).map_err(|error| {
            // OAUTHBEARER brings the broker's reason as JSON, where others have a code.
            let said = received.as_deref().unwrap_or_default();
            failed(match said.first() {
                Some(b'{') => said.escape_ascii().to_string(),
                _ => error.to_string(),
            })
        })?;
        if state.has_sent_message() {
            let request = SaslAuthenticateRequest::default().with_auth_bytes(to_send.into_inner().into());
            let response = connection.call_without_login(STEP_TIMEOUT, request).await?;
            if let Some(code) = ResponseError::try_from_code(response.error_code) {
                return Err(refused(code, response.error_message.map(|message| message.to_string())));
            }
            lifetime = u64::try_from(response.session_lifetime_ms).ok().filter(|ms| *ms > 0);
            received = Some(response.auth_bytes);
        }
        if state.is_finished() {
            return Ok(lifetime.map(Duration::from_millis));
        }
    }
}

fn config(login: Login) -> Result<Arc<SASLConfig>, rsasl::prelude::SASLError> {
    match login {
        Login::Password { username, password } => SASLConfig::with_credentials(None, username, password),
        Login::Token(token) => SASLConfig::builder()
            .with_default_mechanisms()
            .with_callback(Token(token)),
    }
}

/// Gives the token to the mechanism when it asks.
struct Token(String);

impl SessionCallback for Token {
    fn callback(&self, _: &SessionData, _: &Context<'_>, request: &mut Request<'_>) -> Result<(), SessionError> {
        request
            .satisfy::<OAuthBearerKV>(&[])?
            .satisfy::<OAuthBearerToken>(&self.0)?;
        Ok(())
    }
}
