//! Contents of the TLS files, and rustls' configuration from them.

use std::{fs, path::Path, sync::Arc};

use anyhow::Context as _;
use rustls::{
    RootCertStore, ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::{NoServerSessionStorage, WebPkiClientVerifier},
};

use crate::config::TlsFiles;

/// Protocols that a client can choose from, the preferred one first.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// Bytes of the files.
#[derive(PartialEq, Eq)]
pub(super) struct Contents {
    cert: Vec<u8>,
    key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
}

impl Contents {
    pub(super) fn read(files: TlsFiles<'_>) -> anyhow::Result<Self> {
        let read = |option: &str, path: &Path| fs::read(path).with_context(|| format!("{option} {}", path.display()));
        Ok(Self {
            cert: read("--tls-cert", files.cert)?,
            key: read("--tls-key", files.key)?,
            client_ca: files.client_ca.map(|path| read("--tls-client-ca", path)).transpose()?,
        })
    }

    /// Configuration of TLS 1.2 and 1.3. `files` are for the messages of errors.
    pub(super) fn config(&self, files: TlsFiles<'_>) -> anyhow::Result<ServerConfig> {
        let TlsFiles { cert, key, client_ca } = files;
        let chain = certificates(&self.cert).with_context(|| format!("--tls-cert {}", cert.display()))?;
        let private = PrivateKeyDer::from_pem_slice(&self.key)
            .map_err(anyhow::Error::new)
            .with_context(|| format!("--tls-key {}", key.display()))?;
        let provider = Arc::new(ring::default_provider());
        let builder =
            ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions()?;
        let builder = match (&self.client_ca, client_ca) {
            (Some(pem), Some(path)) => {
                let authorities = || -> anyhow::Result<_> {
                    let mut roots = RootCertStore::empty();
                    for authority in certificates(pem)? {
                        roots.add(authority)?;
                    }
                    Ok(WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build()?)
                };
                let verifier = authorities().with_context(|| format!("--tls-client-ca {}", path.display()))?;
                builder.with_client_cert_verifier(verifier)
            }
            _ => builder.with_no_client_auth(),
        };
        let pair = || format!("--tls-cert {} with --tls-key {}", cert.display(), key.display());
        let mut config = builder.with_single_cert(chain, private).with_context(pair)?;
        config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).into();
        // A resumed session would be admitted by the certificate that it began with, which may have expired since.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(config)
    }
}

fn certificates(pem: &[u8]) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>()?;
    anyhow::ensure!(!certificates.is_empty(), "there is no certificate in it");
    Ok(certificates)
}
