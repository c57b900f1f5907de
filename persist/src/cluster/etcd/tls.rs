//! TLS to etcd: the members' certificates are always verified, by one named authority. Next: [`super::channel`].

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use super::options::TlsFiles;
use crate::cluster::error::ClusterError;

/// Reads the files.
///
/// # Errors
/// [`ClusterError::Denied`], with the file.
pub(super) fn client_config(files: &TlsFiles) -> Result<Arc<ClientConfig>, ClusterError> {
    let authority = files.authority.as_deref().unwrap_or(Path::new(""));
    let mut roots = RootCertStore::empty();
    for certificate in certificates(authority)? {
        roots.add(certificate).map_err(|error| unusable(authority, &error))?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| unusable(authority, &error))?.with_root_certificates(roots);
    let mut config = match &files.own {
        None => builder.with_no_client_auth(),
        Some((own, key)) => {
            let key_der = PrivateKeyDer::from_pem_file(key).map_err(|error| unusable(key, &error))?;
            let config = builder.with_client_auth_cert(certificates(own)?, key_der);
            config.map_err(|error| unusable(own, &error))?
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, ClusterError> {
    let all = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match all {
        Ok(all) if !all.is_empty() => Ok(all),
        Ok(_) => Err(unusable(path, &"there is no certificate in it")),
        Err(error) => Err(unusable(path, &error)),
    }
}

fn unusable(path: &Path, why: &dyn std::fmt::Display) -> ClusterError {
    ClusterError::Denied(format!("certificate file {}: {why}", path.display()))
}
