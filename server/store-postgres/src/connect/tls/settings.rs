//! TLS settings from a URL, libpq's variables and libpq's default files.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
};

use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};

use crate::connect::tls::verify::AnyHost;

/// libpq's `sslmode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Mode {
    Disable,
    Allow,
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

impl FromStr for Mode {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text {
            "disable" => Self::Disable,
            "allow" => Self::Allow,
            "prefer" => Self::Prefer,
            "require" => Self::Require,
            "verify-ca" => Self::VerifyCa,
            "verify-full" => Self::VerifyFull,
            _ => return Err("is none of disable, allow, prefer, require, verify-ca, verify-full"),
        })
    }
}

/// Certificate authorities that are trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Root {
    /// Authorities that the system trusts.
    System,
    File(PathBuf),
}

#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub mode: Mode,
    /// Host that a certificate has to be for under `verify-full`.
    pub host: String,
    /// Trusted authorities: `sslrootcert`, or libpq's default file if it exists.
    root: Option<Root>,
    /// Files of the client's certificate and its key.
    identity: Option<(PathBuf, PathBuf)>,
}

/// Look-up of a parameter in a URL or, if that has none, in libpq's variables.
pub(crate) trait Source {
    fn get(&self, parameter: &str) -> Option<String>;
}

impl<F: Fn(&str) -> Option<String>> Source for F {
    fn get(&self, parameter: &str) -> Option<String> {
        self(parameter)
    }
}

impl Settings {
    /// Reads the settings. `defaults` is the folder of libpq's default files, `~/.postgresql`.
    ///
    /// # Errors
    /// A description of parameters that contradict each other.
    pub(crate) fn new(source: &impl Source, host: &str, defaults: Option<&Path>) -> Result<Self, String> {
        let named = source.get("sslmode").map(|mode| mode.parse()).transpose();
        let named: Option<Mode> = named.map_err(|wrong| format!("sslmode {wrong}"))?;
        let default = |name: &str| defaults.map(|folder| folder.join(name)).filter(|path| path.exists());
        let root = match source.get("sslrootcert") {
            Some(root) if root == "system" => Some(Root::System),
            Some(root) => Some(Root::File(root.into())),
            None => default("root.crt").map(Root::File),
        };
        if root.is_some() && default("root.crl").is_some() {
            return Err("root.crl beside libpq's default files: lists of revoked certificates are not supported".into());
        }
        let mode = match (named, &root) {
            (None, Some(Root::System)) => Mode::VerifyFull,
            (Some(mode), Some(Root::System)) if mode != Mode::VerifyFull => {
                return Err("sslrootcert=system needs sslmode=verify-full".into());
            }
            (Some(Mode::VerifyCa | Mode::VerifyFull), None) => {
                return Err(
                    "sslmode=verify-ca and verify-full need sslrootcert: a file of certificates, or system".into()
                );
            }
            // As in libpq, `require` together with an authority verifies the certificate.
            (Some(Mode::Require), Some(_)) => Mode::VerifyCa,
            (named, _) => named.unwrap_or(Mode::Prefer),
        };
        let file = |parameter: &str, name: &str| source.get(parameter).map(PathBuf::from).or_else(|| default(name));
        let identity = match (file("sslcert", "postgresql.crt"), file("sslkey", "postgresql.key")) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (Some(_), None) => return Err("sslcert needs sslkey".into()),
            // Without a certificate no key is used.
            (None, _) => None,
        };
        Ok(Self { mode, host: host.to_owned(), root, identity })
    }

    /// Configuration of rustls. Reads the files anew for each connection, as they may have been replaced.
    pub(super) fn client_config(&self) -> Result<ClientConfig, String> {
        let provider = Arc::new(ring::default_provider());
        let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?;
        let config = match (self.root.as_ref().map(roots).transpose()?, self.mode) {
            (Some(roots), Mode::VerifyFull) => config.with_root_certificates(roots),
            (roots, _) => {
                let any_host = AnyHost::new(roots, provider).map_err(|error| error.to_string())?;
                config.dangerous().with_custom_certificate_verifier(Arc::new(any_host))
            }
        };
        match &self.identity {
            Some((certificate, key)) => {
                config.with_client_auth_cert(certificates("sslcert", certificate)?, private_key(key)?)
            }
            None => return Ok(config.with_no_client_auth()),
        }
        .map_err(|error| format!("sslcert and sslkey do not fit: {error}"))
    }
}

fn roots(root: &Root) -> Result<RootCertStore, String> {
    let certificates = match root {
        Root::System => rustls_native_certs::load_native_certs().certs,
        Root::File(path) => certificates("sslrootcert", path)?,
    };
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(certificates);
    if added == 0 {
        return Err("sslrootcert has no certificate that can be used".into());
    }
    Ok(roots)
}

fn certificates(parameter: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let all = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    all.map_err(|error| format!("{parameter}: {}: {error}", path.display()))
}

/// Reads a private key. As in libpq, only its owner may have access to the file; if that is root, its group may read
/// it, too.
fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, String> {
    let wrong = |error: String| format!("sslkey: {}: {error}", path.display());
    let metadata = fs::metadata(path).map_err(|error| wrong(error.to_string()))?;
    let others = if metadata.uid() == 0 { 0o037 } else { 0o077 };
    if metadata.mode() & others != 0 {
        return Err(wrong("others can read it; make it readable for its owner alone (chmod 0600)".into()));
    }
    PrivateKeyDer::from_pem_file(path).map_err(|error| wrong(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(parameters: &[(&str, &str)], defaults: Option<&Path>) -> Result<Settings, String> {
        let source = |name: &str| {
            let found = parameters.iter().find(|(it, _)| *it == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        Settings::new(&source, "h", defaults)
    }

    fn mode(parameters: &[(&str, &str)]) -> Result<Mode, String> {
        settings(parameters, None).map(|settings| settings.mode)
    }

    #[test]
    fn a_mode_is_what_libpq_makes_of_it() {
        assert_eq!(mode(&[]), Ok(Mode::Prefer));
        assert_eq!(mode(&[("sslmode", "allow")]), Ok(Mode::Allow));
        assert_eq!(mode(&[("sslmode", "require")]), Ok(Mode::Require));
        assert_eq!(mode(&[("sslmode", "require"), ("sslrootcert", "f")]), Ok(Mode::VerifyCa));
        assert_eq!(mode(&[("sslmode", "verify-full"), ("sslrootcert", "f")]), Ok(Mode::VerifyFull));
        assert_eq!(mode(&[("sslrootcert", "system")]), Ok(Mode::VerifyFull));
        for (parameters, says) in [
            (&[("sslmode", "verify-ca")] as &[_], "need sslrootcert"),
            (&[("sslmode", "verify-full")], "need sslrootcert"),
            (&[("sslmode", "require"), ("sslrootcert", "system")], "needs sslmode=verify-full"),
            (&[("sslmode", "VERIFY")], "is none of disable, allow"),
            (&[("sslcert", "f")], "sslcert needs sslkey"),
        ] {
            let error = mode(parameters).unwrap_err();
            assert!(error.contains(says), "{parameters:?}: {error}");
        }
    }

    #[test]
    fn libpqs_default_files_are_used_where_they_are() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("root.crt"), "").unwrap();
        let found = settings(&[("sslmode", "verify-full")], Some(folder.path())).unwrap();
        assert_eq!((found.root, found.identity), (Some(Root::File(folder.path().join("root.crt"))), None));
        for name in ["postgresql.crt", "postgresql.key"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        fs::write(folder.path().join("root.crl"), "").unwrap();
        let error = settings(&[("sslmode", "verify-full")], Some(folder.path())).unwrap_err();
        assert!(error.contains("root.crl"), "{error}");
        fs::remove_file(folder.path().join("root.crl")).unwrap();
        let found = settings(&[("sslmode", "require"), ("sslrootcert", "f")], Some(folder.path())).unwrap();
        let identity = ["postgresql.crt", "postgresql.key"].map(|name| folder.path().join(name));
        assert_eq!((found.root, found.identity), (Some(Root::File("f".into())), Some(identity.into())));
    }

    #[test]
    fn a_file_that_is_missing_or_open_to_others_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        let config = |parameters: &[(&str, &str)]| settings(parameters, None).unwrap().client_config().map(drop);
        let error = config(&[("sslrootcert", &path("none"))]).unwrap_err();
        assert!(error.starts_with("sslrootcert: ") && error.contains("none"), "{error}");
        fs::write(path("empty"), "no certificate").unwrap();
        let error = config(&[("sslrootcert", &path("empty"))]).unwrap_err();
        assert!(error.contains("no certificate that can be used"), "{error}");
        let error = private_key(&folder.path().join("empty")).unwrap_err();
        assert!(error.starts_with("sslkey: ") && error.contains("chmod 0600"), "{error}");
    }
}
