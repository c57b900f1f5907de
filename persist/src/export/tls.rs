//! TLS to Postgres, with the meaning that libpq gives to its modes.
//!
//! ```text
//! disable                in clear text
//! allow                  in clear text; encrypted if the server refuses that
//! prefer                 encrypted if the server offers it; in clear text if it does not, or refuses it
//! require                encrypted; the certificate is checked only if there is a root certificate
//! verify-ca              encrypted, and the certificate is signed by the given authority
//! verify-full            the same, and it is for this host; without a root certificate the system's count
//! ```
//!
//! Next: [`super::target`] for the parsing, [`super::link`] for the attempts.

use std::convert::Infallible;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use tokio_postgres::config::SslMode as Asked;
use tokio_postgres::tls::{MakeTlsConnect, TlsConnect};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::error::ExportError;
use super::target::{SslMode, Target};

/// The modes to try one after the other, until the server accepts one.
pub(super) fn attempts(target: &Target) -> &'static [Asked] {
    match target.mode {
        _ if target.is_unix() => &[Asked::Disable],
        SslMode::Disable => &[Asked::Disable],
        SslMode::Allow => &[Asked::Disable, Asked::Require],
        SslMode::Prefer => &[Asked::Prefer, Asked::Disable],
        SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => &[Asked::Require],
    }
}

/// Makes encrypted connections, and remembers whether one was made.
#[derive(Clone)]
pub(super) struct Tls {
    inner: MakeRustlsConnect,
    used: Arc<AtomicBool>,
}

impl Tls {
    /// Reads the certificates; `extra` is the file to use if the connection string names none.
    pub(super) fn new(target: &Target, extra: Option<&Path>) -> Result<Self, ExportError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        // Fails only if a provider is installed already, which is fine.
        drop(rustls::crypto::ring::default_provider().install_default());
        let roots = target.roots.as_deref().or(extra);
        let is_full = target.mode == SslMode::VerifyFull;
        let inner = match roots {
            None if is_full => MakeRustlsConnect::with_native_certs()
                .map(|(tls, _)| tls)
                .map_err(|errors| ExportError::Tls(format!("the system's root certificates: {errors:?}")))?,
            roots => {
                let looks = target.mode >= SslMode::Require;
                let roots = roots.filter(|_| looks).map(|path| verifier(path, &provider)).transpose()?;
                MakeRustlsConnect::new(client_config(Verifier { roots, name_counts: is_full, provider })?)
            }
        };
        Ok(Self { inner, used: Arc::default() })
    }

    /// Whether a connection was encrypted.
    pub(super) fn was_used(&self) -> bool {
        self.used.load(Ordering::Relaxed)
    }

    /// Resets that, for the next attempt.
    pub(super) fn forget(&self) {
        self.used.store(false, Ordering::Relaxed);
    }
}

fn client_config(verifier: Verifier) -> Result<ClientConfig, ExportError> {
    let builder = ClientConfig::builder_with_provider(Arc::clone(&verifier.provider));
    let builder = builder.with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| ExportError::Tls(error.to_string()))?;
    let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier));
    Ok(builder.with_no_client_auth())
}

fn verifier(path: &Path, provider: &Arc<CryptoProvider>) -> Result<Arc<WebPkiServerVerifier>, ExportError> {
    let unreadable =
        |error: &dyn fmt::Display| ExportError::Tls(format!("root certificates {}: {error}", path.display()));
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|error| unreadable(&error))? {
        let certificate = certificate.map_err(|error| unreadable(&error))?;
        store.add(certificate).map_err(|error| unreadable(&error))?;
    }
    if store.is_empty() {
        return Err(unreadable(&"the file holds none"));
    }
    let builder = WebPkiServerVerifier::builder_with_provider(Arc::new(store), Arc::clone(provider));
    builder.build().map_err(|error| unreadable(&error))
}

/// Verifies a server's certificate.
#[derive(Debug)]
struct Verifier {
    /// `None` = any certificate is accepted.
    roots: Option<Arc<WebPkiServerVerifier>>,
    /// Whether the certificate has to be for this host.
    name_counts: bool,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(roots) = &self.roots else { return Ok(ServerCertVerified::assertion()) };
        match roots.verify_server_cert(certificate, intermediates, name, ocsp, now) {
            // The name is checked last: everything else was right.
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if !self.name_counts => Ok(ServerCertVerified::assertion()),
            judged => judged,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// One handshake.
pub(super) struct Handshake<T> {
    inner: T,
    used: Arc<AtomicBool>,
}

impl<S> MakeTlsConnect<S> for Tls
where
    MakeRustlsConnect: MakeTlsConnect<S, Error = Infallible>,
{
    type Stream = <MakeRustlsConnect as MakeTlsConnect<S>>::Stream;
    type TlsConnect = Handshake<<MakeRustlsConnect as MakeTlsConnect<S>>::TlsConnect>;
    type Error = Infallible;

    fn make_tls_connect(&mut self, host: &str) -> Result<Self::TlsConnect, Infallible> {
        Ok(Handshake { inner: self.inner.make_tls_connect(host)?, used: Arc::clone(&self.used) })
    }
}

impl<S, T: TlsConnect<S>> TlsConnect<S> for Handshake<T> {
    type Stream = T::Stream;
    type Error = T::Error;
    type Future = T::Future;

    fn connect(self, stream: S) -> Self::Future {
        self.used.store(true, Ordering::Relaxed);
        self.inner.connect(stream)
    }
}
