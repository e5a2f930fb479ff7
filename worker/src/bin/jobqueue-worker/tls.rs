//! Arguments for TLS to the server, and their files.

use std::{fs, path::Path, path::PathBuf};

use clap::Args;
use jobqueue_worker::Tls;

/// TLS to a server at an https:// address.
#[derive(Debug, Default, Args)]
pub(crate) struct TlsArgs {
    /// File with the certificates of the authorities that the server's certificate may come from (PEM). Default: those
    /// that the system trusts.
    #[arg(long, env = "JOBQUEUE_CA", value_name = "FILE")]
    ca: Option<PathBuf>,

    /// File with the certificate that this worker presents to the server (PEM). Needs --client-key.
    #[arg(long, env = "JOBQUEUE_CLIENT_CERT", value_name = "FILE")]
    client_cert: Option<PathBuf>,

    /// File with the private key of --client-cert (PEM).
    #[arg(long, env = "JOBQUEUE_CLIENT_KEY", value_name = "FILE")]
    client_key: Option<PathBuf>,

    /// Name that the server's certificate must be for. Default: the host of --server.
    #[arg(long, env = "JOBQUEUE_SERVER_NAME", value_name = "NAME")]
    server_name: Option<String>,
}

impl TlsArgs {
    /// Reads the files.
    ///
    /// # Errors
    /// One line that names the option and the file.
    pub(crate) fn read(&self) -> Result<Tls, String> {
        let mut tls = Tls::new();
        if let Some(ca) = &self.ca {
            tls = tls.ca(read("--ca", ca)?);
        }
        tls = match (&self.client_cert, &self.client_key) {
            (Some(certificate), Some(key)) => {
                tls.identity(read("--client-cert", certificate)?, read("--client-key", key)?)
            }
            (None, None) => tls,
            (Some(_), None) => return Err("--client-cert needs --client-key".into()),
            (None, Some(_)) => return Err("--client-key needs --client-cert".into()),
        };
        Ok(match &self.server_name {
            Some(name) => tls.server_name(name),
            None => tls,
        })
    }
}

/// Reads the file of an option.
pub(crate) fn read(option: &str, file: &Path) -> Result<Vec<u8>, String> {
    fs::read(file).map_err(|error| format!("{option} {}: {error}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_and_its_key_belong_together_and_a_missing_file_is_named() {
        let file = || Some(PathBuf::from("missing.pem"));
        let problem = |args: TlsArgs| args.read().unwrap_err();
        assert!(TlsArgs::default().read().is_ok());
        assert!(problem(TlsArgs { client_cert: file(), ..TlsArgs::default() }).contains("--client-key"));
        assert!(problem(TlsArgs { client_key: file(), ..TlsArgs::default() }).contains("--client-cert"));
        assert!(problem(TlsArgs { ca: file(), ..TlsArgs::default() }).starts_with("--ca missing.pem: "));
    }
}
