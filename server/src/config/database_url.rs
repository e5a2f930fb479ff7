//! URL of a database, shown without its password.

use std::{fmt, str::FromStr};

/// URL of a database. `Debug` and `Display` leave the password out.
#[derive(Clone, PartialEq, Eq)]
pub struct DatabaseUrl(String);

impl DatabaseUrl {
    /// The URL with its password.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for DatabaseUrl {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // libpq also takes the password as a parameter, and other parameters may hold secrets by mistake.
        let (text, query) = self.0.split_once('?').map_or((self.0.as_str(), ""), |(text, _)| (text, "?…"));
        let Some((scheme, rest)) = text.split_once("://") else { return write!(f, "{text}{query}") };
        // A password may hold a ? that should have been written as %3F: the @ is then after it.
        let user = rest.rsplit_once('@').or_else(|| self.0.contains('@').then_some((rest, "")));
        match user.and_then(|(user, host)| Some((user.split_once(':')?.0, host))) {
            Some((user, host)) => write!(f, "{scheme}://{user}:…@{host}{query}"),
            None => write!(f, "{text}{query}"),
        }
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_not_shown() {
        for (url, shown) in [
            ("postgres://me:se@cret@host/db", "postgres://me:…@host/db"),
            ("postgres://host/db?user=me&password=secret", "postgres://host/db?…"),
            ("postgres://me:a?se@host/db?sslkey_password=secret", "postgres://me:…@?…"),
            ("postgres://me@host/db", "postgres://me@host/db"),
            ("sqlite://data/jobqueue.db", "sqlite://data/jobqueue.db"),
        ] {
            let url: DatabaseUrl = url.parse().unwrap();
            assert_eq!((url.to_string().as_str(), format!("{url:?}").as_str()), (shown, shown));
        }
    }
}
