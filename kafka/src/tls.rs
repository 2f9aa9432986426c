//! TLS to the brokers: rustls with the provider graviola, which needs no C compiler.
//!
//! The files are read again for each connection. As long as they are the same, connections share one configuration, in which
//! rustls keeps the sessions that it can resume.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::Mutex;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use shared::{config::KafkaSettings, error_chain::ErrorChain};

use crate::security::CredentialError;

const CA: &str = "KAFKA_SSL_CA_LOCATION";
const CERTIFICATE: &str = "KAFKA_SSL_CERTIFICATE_LOCATION";
const KEY: &str = "KAFKA_SSL_KEY_LOCATION";

/// An extension of a processor's instructions by its name, and whether the processor has it.
pub(crate) type CpuFeature = (&'static str, bool);

/// What TLS needs: whom to trust, and who we are.
pub(crate) struct Tls {
    /// The certificate authorities; those of Mozilla if there is no file.
    ca: Option<PathBuf>,
    /// Our certificate and its key.
    identity: Option<(PathBuf, PathBuf)>,
    /// Of the files as they were when they were read last.
    current: Mutex<Option<(Files, Arc<ClientConfig>)>>,
}

/// The contents of the files.
#[derive(PartialEq, Eq)]
struct Files {
    ca: Option<Vec<u8>>,
    identity: Option<(Vec<u8>, Vec<u8>)>,
}

// === impl Tls ===

impl Tls {
    /// Checks the settings, the files, and whether a processor with `features` can do the cryptography.
    ///
    /// # Errors
    /// One line that names the setting and what is allowed.
    pub(crate) fn new(settings: &KafkaSettings, features: &[CpuFeature]) -> Result<Self, String> {
        let missing: Vec<_> = features.iter().filter(|(_, has)| !has).map(|(name, _)| *name).collect();
        if !missing.is_empty() {
            return Err(format!(
                "KAFKA_SECURITY_PROTOCOL: {} is not possible on this processor, which has no {} instructions; only PLAINTEXT and \
                 SASL_PLAINTEXT are",
                settings.kafka_security_protocol,
                missing.join(", ")
            ));
        }
        let identity = match (
            &settings.kafka_ssl_certificate_location,
            &settings.kafka_ssl_key_location,
        ) {
            (Some(certificate), Some(key)) => Some((certificate.clone(), key.clone())),
            (None, None) => None,
            (Some(_), None) => return Err(format!("{KEY}: is not set: it must be the key of {CERTIFICATE}")),
            (None, Some(_)) => {
                return Err(format!(
                    "{CERTIFICATE}: is not set: it must be the certificate of {KEY}"
                ));
            }
        };
        let tls = Self {
            ca: settings.kafka_ssl_ca_location.clone(),
            identity,
            current: Mutex::new(None),
        };
        tls.config().map_err(|error| ErrorChain(&error).to_string())?;
        Ok(tls)
    }

    /// The configuration for the next connection.
    ///
    /// # Errors
    /// When a file cannot be read, holds nothing that is needed, or key and certificate do not fit.
    pub(crate) fn config(&self) -> Result<Arc<ClientConfig>, CredentialError> {
        let read = |setting, path: &PathBuf| fs::read(path).map_err(|error| CredentialError::new(setting, path, error));
        let files = Files {
            ca: self.ca.as_ref().map(|path| read(CA, path)).transpose()?,
            identity: match &self.identity {
                Some((certificate, key)) => Some((read(CERTIFICATE, certificate)?, read(KEY, key)?)),
                None => None,
            },
        };
        let mut current = self.current.lock();
        if let Some((known, config)) = &*current
            && *known == files
        {
            return Ok(Arc::clone(config));
        }
        let config = Arc::new(self.build(&files)?);
        *current = Some((files, Arc::clone(&config)));
        Ok(config)
    }

    /// Whether this client has a certificate.
    pub(crate) fn has_identity(&self) -> bool {
        self.identity.is_some()
    }

    fn build(&self, files: &Files) -> Result<ClientConfig, CredentialError> {
        let provider = Arc::new(rustls_graviola::default_provider());
        let error =
            |setting, path: &Path, error: rustls::Error| CredentialError::new(setting, path, io::Error::other(error));
        let nowhere = Path::new("");
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|cause| error("KAFKA_SECURITY_PROTOCOL", nowhere, cause))?
            .with_root_certificates(self.roots(files)?);
        let (Some((certificate, key)), Some((certificate_path, key_path))) = (&files.identity, &self.identity) else {
            return Ok(builder.with_no_client_auth());
        };
        let chain = certificates(CERTIFICATE, certificate_path, certificate)?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|cause| {
            let cause = format!("it holds no private key in PEM without a passphrase ({cause})");
            CredentialError::new(KEY, key_path, io::Error::other(cause))
        })?;
        builder
            .with_client_auth_cert(chain, key)
            .map_err(|cause| error(CERTIFICATE, certificate_path, cause))
    }

    fn roots(&self, files: &Files) -> Result<RootCertStore, CredentialError> {
        let (Some(path), Some(pem)) = (&self.ca, &files.ca) else {
            return Ok(RootCertStore {
                roots: webpki_roots::TLS_SERVER_ROOTS.to_vec(),
            });
        };
        let mut roots = RootCertStore::empty();
        for certificate in certificates(CA, path, pem)? {
            roots
                .add(certificate)
                .map_err(|cause| CredentialError::new(CA, path, io::Error::other(cause)))?;
        }
        Ok(roots)
    }
}

/// The certificates of a PEM file, one at least.
fn certificates(
    setting: &'static str,
    path: &Path,
    pem: &[u8],
) -> Result<Vec<CertificateDer<'static>>, CredentialError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => {
            let cause = io::Error::other("it holds no certificate in PEM");
            Err(CredentialError::new(setting, path, cause))
        }
        Err(cause) => {
            let cause = io::Error::other(format!("it is not PEM ({cause})"));
            Err(CredentialError::new(setting, path, cause))
        }
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("ca", &self.ca)
            .field("identity", &self.identity)
            .finish_non_exhaustive()
    }
}

/// The features that graviola needs, and whether this processor has them. Without one graviola would panic at its first use.
pub(crate) fn cpu_features() -> Vec<CpuFeature> {
    #[cfg(target_arch = "x86_64")]
    let features = vec![
        ("adx", std::arch::is_x86_feature_detected!("adx")),
        ("aes", std::arch::is_x86_feature_detected!("aes")),
        ("avx", std::arch::is_x86_feature_detected!("avx")),
        ("avx2", std::arch::is_x86_feature_detected!("avx2")),
        ("bmi1", std::arch::is_x86_feature_detected!("bmi1")),
        ("bmi2", std::arch::is_x86_feature_detected!("bmi2")),
        ("pclmulqdq", std::arch::is_x86_feature_detected!("pclmulqdq")),
    ];
    #[cfg(target_arch = "aarch64")]
    let features = vec![
        ("aes", std::arch::is_aarch64_feature_detected!("aes")),
        ("neon", std::arch::is_aarch64_feature_detected!("neon")),
        ("pmull", std::arch::is_aarch64_feature_detected!("pmull")),
        ("sha2", std::arch::is_aarch64_feature_detected!("sha2")),
    ];
    features
}
