//! TLS of connections to a server: which authorities are trusted, and the certificate that is presented.

use std::fmt;

use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};

/// TLS of the connections to a server at an `https://` address. By default the authorities of the system are trusted,
/// the certificate has to be for the address's host, and no certificate is presented.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Tls {
    ca: Option<Vec<u8>>,
    /// Certificate chain and private key.
    identity: Option<(Vec<u8>, Vec<u8>)>,
    server_name: Option<String>,
}

impl Tls {
    pub fn new() -> Self {
        Self::default()
    }

    /// Trusts the authorities of these certificates (PEM), instead of those of the system.
    pub fn ca(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.ca = Some(pem.into());
        self
    }

    /// Presents a certificate (PEM, with those that lead to its authority) with its private key (PEM).
    pub fn identity(mut self, certificate: impl Into<Vec<u8>>, key: impl Into<Vec<u8>>) -> Self {
        self.identity = Some((certificate.into(), key.into()));
        self
    }

    /// Name that the server's certificate has to be for, instead of the host in the address.
    pub fn server_name(mut self, name: impl Into<String>) -> Self {
        self.server_name = Some(name.into());
        self
    }

    /// Gives `endpoint` this TLS if its address begins with `https://`.
    ///
    /// # Errors
    /// A description of what cannot be used.
    pub(crate) fn apply(&self, endpoint: Endpoint) -> Result<Endpoint, String> {
        if endpoint.uri().scheme_str() != Some("https") {
            let unused = *self != Self::default();
            return if unused {
                Err("it is only for an address that begins with https://".into())
            } else {
                Ok(endpoint)
            };
        }
        let mut config = match &self.ca {
            Some(pem) => {
                let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
                match certificates {
                    Ok(found) if found.is_empty() => return Err("there is no certificate of an authority".into()),
                    Err(error) => return Err(format!("the certificates of authorities: {error}")),
                    Ok(_) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem)),
                }
            }
            None => ClientTlsConfig::new().with_native_roots(),
        };
        if let Some((certificate, key)) = &self.identity {
            config = config.identity(Identity::from_pem(certificate, key));
        }
        if let Some(name) = &self.server_name {
            config = config.domain_name(name);
        }
        endpoint.tls_config(config).map_err(|error| root_cause(&error))
    }
}

/// Text of the innermost error, since those around it only say that something is wrong with the transport.
fn root_cause(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), root_cause)
}

/// Does not show the private key.
impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("ca", &self.ca.is_some())
            .field("identity", &self.identity.is_some())
            .field("server_name", &self.server_name)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(address: &'static str, tls: &Tls) -> Option<String> {
        tls.apply(Endpoint::from_static(address)).err()
    }

    #[tokio::test]
    async fn settings_that_cannot_be_used_are_described() {
        assert_eq!(problem("http://queue", &Tls::new()), None);
        let plain = problem("http://queue", &Tls::new().server_name("queue")).unwrap();
        assert!(plain.contains("https://"), "{plain}");
        let empty = problem("https://queue", &Tls::new().ca("no certificate")).unwrap();
        assert!(empty.contains("no certificate of an authority"), "{empty}");
        let authority = rcgen::generate_simple_self_signed(["queue".to_owned()]).unwrap();
        let tls = Tls::new().ca(authority.cert.pem());
        assert_eq!(problem("https://queue", &tls), None);
        assert!(problem("https://queue", &tls.clone().identity("", "")).is_some());
        let own = tls.identity(authority.cert.pem(), authority.signing_key.serialize_pem());
        assert_eq!(problem("https://queue", &own), None);
        assert!(!format!("{own:?}").contains("PRIVATE"));
    }
}
