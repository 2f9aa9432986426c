//! Why a connection failed, and what its user can do about it: TLS, and peers that hang up.

use std::io;

use rustls::{AlertDescription as Alert, CertificateError, Error as TlsError};

use crate::security::Security;

/// Whether the peer has closed the connection, or reset it since it had not read everything.
pub(super) fn is_end(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    matches!(
        error.kind(),
        UnexpectedEof | ConnectionReset | ConnectionAborted | BrokenPipe
    )
}

/// What to do about a peer that closes the connection at the first answer.
pub(super) fn first_answer_advice(security: &Security) -> &'static str {
    match (&security.tls, security.sasl.is_some()) {
        (None, false) => ": is this a TLS or SASL listener? set KAFKA_SECURITY_PROTOCOL",
        (None, true) => ": is this a TLS listener? set KAFKA_SECURITY_PROTOCOL to SASL_SSL",
        (Some(tls), false) if tls.has_identity() => {
            ": is this a SASL listener? set KAFKA_SECURITY_PROTOCOL to SASL_SSL; or check KAFKA_SSL_CERTIFICATE_LOCATION"
        }
        (Some(_), false) => {
            ": is this a SASL listener? set KAFKA_SECURITY_PROTOCOL to SASL_SSL; or set KAFKA_SSL_CERTIFICATE_LOCATION"
        }
        (Some(_), true) => "",
    }
}

/// An error of TLS. The text is the same at each attempt, so that it is logged once.
pub(super) fn tls_cause(error: &io::Error) -> String {
    let cause = error.get_ref().and_then(|error| error.downcast_ref::<TlsError>());
    match cause {
        Some(TlsError::InvalidCertificate(CertificateError::ExpiredContext { time, not_after })) => {
            let ago = time.as_secs().saturating_sub(not_after.as_secs());
            format!("the certificate of the broker expired {} ago", rough(ago))
        }
        Some(TlsError::InvalidCertificate(CertificateError::NotValidYetContext { time, not_before })) => {
            let ahead = not_before.as_secs().saturating_sub(time.as_secs());
            format!("the certificate of the broker becomes valid in {}", rough(ahead))
        }
        _ => error.to_string(),
    }
}

/// A time in its largest unit.
fn rough(seconds: u64) -> String {
    match seconds {
        0..3_600 => "less than an hour".to_owned(),
        3_600..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// What to do about an error of TLS.
pub(super) fn tls_advice(error: &io::Error) -> &'static str {
    let cause = error.get_ref().and_then(|error| error.downcast_ref::<TlsError>());
    match cause {
        Some(TlsError::InvalidCertificate(CertificateError::UnknownIssuer)) => {
            "; set KAFKA_SSL_CA_LOCATION to the certificate authority of the brokers"
        }
        Some(TlsError::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        )) => "; use a name in KAFKA_BROKERS and advertised.listeners that is in the certificate",
        Some(TlsError::InvalidCertificate(
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. },
        )) => "; renew the certificate of the broker, or check the clock of this machine",
        Some(TlsError::AlertReceived(
            Alert::BadCertificate
            | Alert::CertificateExpired
            | Alert::CertificateRequired
            | Alert::CertificateRevoked
            | Alert::CertificateUnknown
            | Alert::UnknownCA
            | Alert::UnsupportedCertificate,
        )) => {
            "; the broker wants a certificate of this client that it trusts: check KAFKA_SSL_CERTIFICATE_LOCATION and \
             KAFKA_SSL_KEY_LOCATION"
        }
        Some(TlsError::InvalidMessage(_)) => {
            "; what answers does not speak TLS: check the port in KAFKA_BROKERS, and KAFKA_SECURITY_PROTOCOL"
        }
        None if is_end(error) => "; is this a plaintext listener? check KAFKA_SECURITY_PROTOCOL",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rustls::pki_types::UnixTime;

    use super::*;

    fn at(seconds: u64) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs(seconds))
    }

    #[test]
    fn expired_certificate_has_the_same_text_at_each_attempt() {
        let error = |time| {
            let not_after = at(1_000_000);
            let cause = CertificateError::ExpiredContext { time, not_after };
            io::Error::other(TlsError::InvalidCertificate(cause))
        };
        let text = tls_cause(&error(at(1_100_000)));
        assert_eq!(text, "the certificate of the broker expired 27 h ago");
        assert_eq!(text, tls_cause(&error(at(1_100_001))));
        assert!(tls_advice(&error(at(1_100_000))).contains("renew the certificate"));
    }

    #[test]
    fn certificate_of_tomorrow_is_named() {
        let cause = CertificateError::NotValidYetContext {
            time: at(1_000_000),
            not_before: at(1_864_000),
        };
        let error = io::Error::other(TlsError::InvalidCertificate(cause));
        assert_eq!(
            tls_cause(&error),
            "the certificate of the broker becomes valid in 10 days"
        );
        assert!(tls_advice(&error).contains("check the clock"));
    }
}
