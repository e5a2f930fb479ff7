//! Settings of TLS on the server's addresses.

use std::path::{Path, PathBuf};

use clap::Args;

/// TLS of both addresses.
#[derive(Clone, Debug, Default, Args)]
pub struct Tls {
    /// File with the server's certificate and the certificates that lead to its authority (PEM). With it both addresses
    /// speak TLS only. A file that changes is read again within seconds.
    #[arg(long = "tls-cert", env = "JOBQUEUE_TLS_CERT", value_name = "FILE")]
    pub cert: Option<PathBuf>,

    /// File with the private key of --tls-cert (PEM).
    #[arg(long = "tls-key", env = "JOBQUEUE_TLS_KEY", value_name = "FILE")]
    pub key: Option<PathBuf>,

    /// File with the certificates of authorities (PEM): every client of both addresses, browsers and Prometheus
    /// included, must present a certificate of one of them.
    #[arg(long = "tls-client-ca", env = "JOBQUEUE_TLS_CLIENT_CA", value_name = "FILE")]
    pub client_ca: Option<PathBuf>,
}

/// Files of [`Tls`] that belong together.
#[derive(Clone, Copy, Debug)]
pub struct TlsFiles<'a> {
    pub cert: &'a Path,
    pub key: &'a Path,
    pub client_ca: Option<&'a Path>,
}

impl Tls {
    /// Files to read; `None` without TLS.
    ///
    /// # Errors
    /// One line for the operator that names the missing option.
    pub fn files(&self) -> Result<Option<TlsFiles<'_>>, String> {
        match (&self.cert, &self.key, &self.client_ca) {
            (Some(cert), Some(key), client_ca) => Ok(Some(TlsFiles { cert, key, client_ca: client_ca.as_deref() })),
            (None, None, None) => Ok(None),
            (Some(_), None, _) => Err("--tls-cert needs --tls-key, the file with its private key".into()),
            (None, Some(_), _) => Err("--tls-key needs --tls-cert, the file with its certificate".into()),
            (None, None, Some(_)) => Err("--tls-client-ca needs --tls-cert and --tls-key".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_that_need_others_say_so() {
        let files = |given: [bool; 3]| {
            let [cert, key, client_ca] = given.map(|given| given.then(|| PathBuf::from("file.pem")));
            Tls { cert, key, client_ca }.files().map(|files| files.is_some())
        };
        assert_eq!(files([false, false, false]), Ok(false));
        assert_eq!(files([true, true, false]), Ok(true));
        assert_eq!(files([true, true, true]), Ok(true));
        for (given, missing) in [
            ([true, false, true], "--tls-key"),
            ([false, true, false], "--tls-cert"),
            ([false, false, true], "--tls-cert"),
        ] {
            assert!(files(given).unwrap_err().contains(missing), "{given:?}");
        }
    }
}
