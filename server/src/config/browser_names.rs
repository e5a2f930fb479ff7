//! Names by which browsers reach a server: origins and host names.

use std::str::FromStr;

use http::HeaderValue;

/// Origin as browsers send it, a scheme and an authority: `https://tools.example.com`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    text: String,
    authority: String,
}

impl Origin {
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Host, with the port if it is not the scheme's default.
    pub fn authority(&self) -> &str {
        &self.authority
    }
}

impl FromStr for Origin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim().trim_end_matches('/').to_ascii_lowercase();
        let authority = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
        match authority {
            Some(authority)
                if !authority.is_empty()
                    && !authority.contains(['/', '?', '#', '@', '*'])
                    && text.parse::<http::Uri>().is_ok()
                    && HeaderValue::from_str(&text).is_ok() =>
            {
                Ok(Self { authority: authority.to_owned(), text })
            }
            _ => Err("an origin is a scheme and a host, such as https://tools.example.com".into()),
        }
    }
}

/// Host name as browsers send it, in lower case, without a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostName(String);

impl HostName {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for HostName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim().trim_end_matches('.').to_ascii_lowercase();
        let is_name = |it: char| it.is_ascii_alphanumeric() || matches!(it, '-' | '_' | '.');
        if text.is_empty() || text.len() > 253 || !text.chars().all(is_name) {
            return Err("a host name has no scheme and no port, such as jobs.example.com".into());
        }
        Ok(Self(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_what_browsers_send() {
        assert_eq!("HTTPS://A.example:8443/".parse::<Origin>().unwrap().as_str(), "https://a.example:8443");
        for wrong in ["*", "a.example", "https://", "https://a/b", "https://*.example", "ftp://a", "null"] {
            assert!(wrong.parse::<Origin>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn host_names_are_names_and_nothing_else() {
        assert_eq!("Jobs.Example.com.".parse::<HostName>().unwrap().as_str(), "jobs.example.com");
        for wrong in ["", "*", "http://a", "a:80", "a/b", "*.example.com"] {
            assert!(wrong.parse::<HostName>().is_err(), "{wrong}");
        }
    }
}
