//! Errors of a store, grouped by what the caller should do about them.

#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// The database cannot be reached, or cannot write now. The caller gets UNAVAILABLE and tries again; it is not
    /// known whether a write that was under way took effect.
    #[error("the storage is unavailable: {0}")]
    Unavailable(String),
    /// A conflict with another transaction rolled this one back, so that it has had no effect. It is tried again at
    /// once; if that does not help, the caller gets UNAVAILABLE.
    #[error("the storage is busy: {0}")]
    Conflict(String),
    /// The storage is full. The caller gets RESOURCE_EXHAUSTED and tries again later.
    #[error("the storage is full: {0}")]
    Full(String),
    /// The database refused the data of a row. The items of a group are then tried one by one; the caller gets
    /// INTERNAL.
    #[error("the database refused the data: {0}")]
    Data(String),
    /// The file is damaged or is not a database. The caller gets DATA_LOSS, and the server is not ready any more: an
    /// operator has to restore the database.
    #[error("the database is damaged: {0}")]
    Damaged(String),
    /// The stored data or the statement is wrong: a defect. The caller gets INTERNAL, and the log has the text.
    #[error("storage defect: {0}")]
    Defect(String),
    /// The server cannot start on this database; the text says why.
    #[error("{0}")]
    Startup(String),
    /// The driver does not have this operation.
    #[error("{0}")]
    Unsupported(&'static str),
}

impl StoreError {
    /// Kind of the error, as a label of metrics.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Unavailable(_) => "unavailable",
            Self::Conflict(_) => "conflict",
            Self::Full(_) => "full",
            Self::Data(_) => "data",
            Self::Damaged(_) => "damaged",
            Self::Defect(_) => "defect",
            Self::Startup(_) => "startup",
            Self::Unsupported(_) => "unsupported",
        }
    }

    /// Whether the error is caused by the data of some rows, so that the same statement can succeed without them.
    pub fn concerns_single_rows(&self) -> bool {
        matches!(self, Self::Data(_) | Self::Defect(_))
    }
}

pub type StoreResult<T> = Result<T, StoreError>;

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        use sqlx::Error as E;
        match &error {
            E::PoolTimedOut => Self::Unavailable("no connection became free, and none could be made, in time".into()),
            E::Io(_) | E::Tls(_) | E::PoolClosed | E::WorkerCrashed | E::Protocol(_) | E::BeginFailed => {
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

/// Classifies an error code. PostgreSQL's codes have five characters (its Appendix A); SQLite's are numbers.
fn classify(code: &str, text: String) -> StoreError {
    if code.len() == 5 { classify_postgres(code, text) } else { classify_sqlite(code, text) }
}

fn classify_postgres(code: &str, text: String) -> StoreError {
    let (class, _) = code.split_at_checked(2).unwrap_or_default();
    match (class, code) {
        (_, "53100") => StoreError::Full(text),
        // Serialization failure and deadlock. With other codes of class 40 the outcome is not known.
        (_, "40001" | "40P01") => StoreError::Conflict(text),
        // A prepared statement that is gone, or that another client has made.
        (_, "26000" | "42P05") => StoreError::Unavailable(format!(
            "{text} (is a pooler in transaction mode in between? then start with --database-pooler transaction)"
        )),
        // Connections, resources, operator intervention (shutdown, timeouts), I/O, locks; logins and databases that are
        // refused or gone for now; a read-only server after a failover; transactions that took too long.
        ("08" | "28" | "3D" | "40" | "53" | "55" | "57" | "58", _) | (_, "25006" | "25P03" | "25P04") => {
            StoreError::Unavailable(text)
        }
        ("22" | "23", _) => StoreError::Data(text),
        _ => StoreError::Defect(text),
    }
}

fn classify_sqlite(code: &str, text: String) -> StoreError {
    // The low byte is the primary result code.
    match code.parse::<u32>().map(|code| code & 0xff) {
        // FULL
        Ok(13) => StoreError::Full(text),
        // CORRUPT, NOTADB
        Ok(11 | 26) => StoreError::Damaged(text),
        // PERM, ABORT, BUSY, LOCKED, NOMEM, READONLY, INTERRUPT, IOERR, CANTOPEN, PROTOCOL, NOLFS
        Ok(3..=10 | 14 | 15 | 22) => StoreError::Unavailable(text),
        // TOOBIG, CONSTRAINT, MISMATCH
        Ok(18..=20) => StoreError::Data(text),
        _ => StoreError::Defect(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(code: &str) -> &'static str {
        classify(code, String::new()).kind()
    }

    #[test]
    fn postgres_errors_are_told_apart_by_what_to_do_about_them() {
        for (code, expected, what) in [
            ("08000", "unavailable", "connection exception"),
            ("08006", "unavailable", "connection failure"),
            ("08P01", "unavailable", "protocol violation; PgBouncer's own troubles"),
            ("22021", "data", "not UTF-8"),
            ("22P05", "data", "untranslatable character: \\u0000"),
            ("23505", "data", "unique violation"),
            ("25006", "unavailable", "read-only transaction"),
            ("25P03", "unavailable", "idle in transaction for too long"),
            ("25P04", "unavailable", "transaction timeout"),
            ("26000", "unavailable", "no such prepared statement"),
            ("28P01", "unavailable", "wrong password"),
            ("3D000", "unavailable", "no such database"),
            ("40001", "conflict", "serialization failure"),
            ("40003", "unavailable", "completion unknown"),
            ("40P01", "conflict", "deadlock"),
            ("42P01", "defect", "no such table"),
            ("42P05", "unavailable", "prepared statement exists"),
            ("53000", "unavailable", "insufficient resources"),
            ("53100", "full", "disk full"),
            ("53200", "unavailable", "out of memory"),
            ("53300", "unavailable", "too many connections"),
            ("53400", "unavailable", "configured limit exceeded"),
            ("55006", "unavailable", "object in use"),
            ("55P03", "unavailable", "lock timeout"),
            ("57014", "unavailable", "statement timeout"),
            ("57P01", "unavailable", "admin shutdown"),
            ("57P02", "unavailable", "crash shutdown"),
            ("57P03", "unavailable", "cannot connect now"),
            ("57P04", "unavailable", "database dropped"),
            ("57P05", "unavailable", "idle session timeout"),
            ("58030", "unavailable", "I/O error"),
            ("58P01", "unavailable", "undefined file"),
            ("XX000", "defect", "internal error"),
            ("XX001", "defect", "data corrupted: one page of a database that others use"),
        ] {
            assert_eq!(kind(code), expected, "{code}, {what}");
        }
    }

    #[test]
    fn sqlite_errors_are_told_apart_by_what_to_do_about_them() {
        for (code, expected, what) in [
            ("1", "defect", "ERROR"),
            ("5", "unavailable", "BUSY"),
            ("6", "unavailable", "LOCKED"),
            ("7", "unavailable", "NOMEM"),
            ("8", "unavailable", "READONLY"),
            ("261", "unavailable", "BUSY_RECOVERY"),
            ("1032", "unavailable", "READONLY_DBMOVED"),
            ("10", "unavailable", "IOERR"),
            ("266", "unavailable", "IOERR_READ"),
            ("778", "unavailable", "IOERR_WRITE"),
            ("1034", "unavailable", "IOERR_FSYNC"),
            ("1290", "unavailable", "IOERR_DIR_FSYNC"),
            ("11", "damaged", "CORRUPT"),
            ("267", "damaged", "CORRUPT_VTAB"),
            ("13", "full", "FULL"),
            ("14", "unavailable", "CANTOPEN"),
            ("18", "data", "TOOBIG"),
            ("19", "data", "CONSTRAINT"),
            ("2067", "data", "CONSTRAINT_UNIQUE"),
            ("26", "damaged", "NOTADB"),
        ] {
            assert_eq!(kind(code), expected, "{code}, {what}");
        }
    }

    #[test]
    fn a_statement_that_a_pooler_lost_says_what_to_set() {
        let error = classify("26000", "prepared statement \"sqlx_s_1\" does not exist".into()).to_string();
        assert!(error.contains("--database-pooler transaction") && !error.contains('\n'), "{error}");
    }
}
