//! What can go wrong in a store, by what the caller should do about it.

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database cannot be reached or cannot write now. The caller gets UNAVAILABLE and tries again; whether a
    /// write that was under way took effect is not known.
    #[error("the storage is unavailable: {0}")]
    Unavailable(String),
    /// There is no room. The caller gets RESOURCE_EXHAUSTED and tries again later.
    #[error("the storage is full: {0}")]
    Full(String),
    /// One row's data was refused. Only units are retried one by one for it; the caller gets INTERNAL.
    #[error("the database refused the data: {0}")]
    Data(String),
    /// The stored data or the statement is wrong: a defect. The caller gets INTERNAL, the log the text.
    #[error("storage defect: {0}")]
    Defect(String),
    /// The server cannot start on this database, and this says why.
    #[error("{0}")]
    Startup(String),
    /// This driver has no such operation.
    #[error("{0}")]
    Unsupported(&'static str),
}

pub type StoreResult<T> = Result<T, StoreError>;

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        use sqlx::Error as E;
        match &error {
            E::Io(_) | E::Tls(_) | E::PoolTimedOut | E::PoolClosed | E::WorkerCrashed | E::Protocol(_) => {
                Self::Unavailable(error.to_string())
            }
            E::Database(database) => {
                let code = database.code().unwrap_or_default();
                classify(&code, error.to_string())
            }
            _ => Self::Defect(error.to_string()),
        }
    }
}

/// PostgreSQL's codes have five characters (classes of its Appendix A); SQLite's are numbers whose low byte is the
/// primary code.
fn classify(code: &str, text: String) -> StoreError {
    if code.len() == 5 {
        return match (&code[..2], code) {
            ("53", "53100" | "53200") => StoreError::Full(text),
            // Connections, resources, operator intervention (shutdown, timeouts), deadlocks, locks, read-only.
            ("08" | "53" | "57" | "58" | "40" | "55", _) | (_, "25006" | "25P03" | "25P04") => {
                StoreError::Unavailable(text)
            }
            ("22" | "23", _) => StoreError::Data(text),
            _ => StoreError::Defect(text),
        };
    }
    match code.parse::<u32>().map(|code| code & 0xff) {
        // FULL
        Ok(13) => StoreError::Full(text),
        // BUSY, LOCKED, NOMEM, READONLY, INTERRUPT, IOERR, CANTOPEN, PROTOCOL
        Ok(5..=10 | 14 | 15) => StoreError::Unavailable(text),
        // TOOBIG, CONSTRAINT, MISMATCH
        Ok(18..=20) => StoreError::Data(text),
        _ => StoreError::Defect(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_told_apart_by_what_to_do_about_them() {
        for code in ["08006", "53300", "57P01", "57014", "40P01", "55P03", "25006", "5", "261", "8", "10", "778"] {
            assert!(matches!(classify(code, String::new()), StoreError::Unavailable(_)), "{code}");
        }
        for code in ["53100", "13"] {
            assert!(matches!(classify(code, String::new()), StoreError::Full(_)), "{code}");
        }
        for code in ["23505", "22021", "19", "2067"] {
            assert!(matches!(classify(code, String::new()), StoreError::Data(_)), "{code}");
        }
        for code in ["42P01", "1"] {
            assert!(matches!(classify(code, String::new()), StoreError::Defect(_)), "{code}");
        }
    }
}
