//! The file: SQLite, write-ahead log, flushed at every commit. One process holds it at a time.

use super::book::{Book, Write};
use super::row::{Row, Table, attachment_key, offer_key};
use super::rows::BadRow;
use crate::crash_point::Deed;
use berth_model::Term;
use rusqlite::{Connection, OptionalExtension, Transaction, params};
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The version of the tables. A newer file is not touched.
const SCHEMA: u32 = 1;
/// How long another process may hold the file: an agent that is being replaced lets go within this.
const LOCK_TIMEOUT: Duration = Duration::from_secs(10);

const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS meta        (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS pods        (key TEXT PRIMARY KEY, row BLOB NOT NULL)   STRICT, WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS orders      (key TEXT PRIMARY KEY, row BLOB NOT NULL)   STRICT, WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS pools       (key TEXT PRIMARY KEY, row BLOB NOT NULL)   STRICT, WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS offers      (key TEXT PRIMARY KEY, row BLOB NOT NULL)   STRICT, WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS attachments (key TEXT PRIMARY KEY, row BLOB NOT NULL)   STRICT, WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS tenures     (key TEXT PRIMARY KEY, row BLOB NOT NULL)   STRICT, WITHOUT ROWID;
";

/// Why the ledger was not opened. The agent does not start without it.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file cannot be made or opened.
    #[error("create ledger {path}")]
    Create {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// SQLite cannot use it.
    #[error("open ledger {path} (is another berthd running?)")]
    Open {
        /// Which.
        path: PathBuf,
        /// Why.
        source: rusqlite::Error,
    },
    /// It was written by a newer agent.
    #[error(
        "ledger {path} is of schema {found}, this agent knows schema {SCHEMA}: install the newer agent again"
    )]
    Schema {
        /// Which.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
    /// It is another node's.
    #[error(
        "ledger {path} is node {theirs}'s, this node is configured as {ours}: correct `node`, or move the ledger away"
    )]
    OtherNode {
        /// Which.
        path: PathBuf,
        /// Whose it is.
        theirs: String,
        /// Who we are.
        ours: String,
    },
    /// The file itself is damaged.
    #[error("ledger {path} is damaged ({found}): {REMEDY}")]
    Damaged {
        /// Which.
        path: PathBuf,
        /// What SQLite found.
        found: String,
    },
    /// One of its rows is no record.
    #[error("ledger {path} is damaged at {what}: {REMEDY}")]
    Row {
        /// Which.
        path: PathBuf,
        /// Which row.
        what: String,
        /// Why.
        source: BadRow,
    },
    /// No thread is left to serve it.
    #[error("start the ledger's thread")]
    Thread(#[source] std::io::Error),
}

const REMEDY: &str = "nothing is done from half a record, containers go on running; put back a backup of it and its \
                      -wal file, or end this node's containers by ctr(8), move it away, and place its pods anew from the \
                      control plane: see RECOVERY in berthd(8)";

/// Why a commit did not happen.
#[derive(Debug, thiserror::Error)]
pub(super) enum CommitError {
    /// Nothing was changed; another try may succeed.
    #[error("write to the ledger")]
    Undone(#[source] rusqlite::Error),
    /// It cannot be known whether it is durable.
    #[error("flush the ledger")]
    Unknown(#[source] rusqlite::Error),
    /// A test ended the process here.
    #[cfg(test)]
    #[error("crash ordered by the test")]
    Crash,
}

/// Where a test lets the process end.
#[cfg(test)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CrashPoint {
    BeforeCommit,
    AfterCommit,
}

#[cfg(test)]
pub(super) type CrashHook = Box<dyn FnMut(CrashPoint) -> bool + Send>;

/// The open file.
pub(super) struct Store {
    connection: Connection,
    #[cfg(test)]
    pub(super) crash: Option<CrashHook>,
}

impl Store {
    /// Opens or makes the file, and reads it whole.
    pub(super) fn open(path: &Path) -> Result<(Self, Book), OpenError> {
        create(path)?;
        let opening = |source| OpenError::Open { path: path.to_owned(), source };
        let connection = Connection::open(path).map_err(opening)?;
        if let Err(source) = prepare(&connection) {
            return Err(match is_damage(&source) {
                true => OpenError::Damaged { path: path.to_owned(), found: source.to_string() },
                false => opening(source),
            });
        }
        check_file(&connection, path)?;
        let store = Self {
            connection,
            #[cfg(test)]
            crash: None,
        };
        store.check_schema(path)?;
        let book = store.read(path)?;
        Ok((store, book))
    }

    fn check_schema(&self, path: &Path) -> Result<(), OpenError> {
        let opening = |source| OpenError::Open { path: path.to_owned(), source };
        match self.meta("schema").map_err(opening)? {
            None => self.set_meta("schema", &SCHEMA.to_string()).map_err(opening),
            Some(found) if found == SCHEMA.to_string() => Ok(()),
            Some(found) => match found.parse() {
                Ok(found) => Err(OpenError::Schema { path: path.to_owned(), found }),
                Err(_) => {
                    let found = format!("schema {found:?} is no number");
                    Err(OpenError::Damaged { path: path.to_owned(), found })
                }
            },
        }
    }

    fn read(&self, path: &Path) -> Result<Book, OpenError> {
        let all = |table: Table| {
            self.rows(table).map_err(|source| match is_damage(&source) {
                true => OpenError::Damaged { path: path.to_owned(), found: source.to_string() },
                false => OpenError::Open { path: path.to_owned(), source },
            })
        };
        let term = self.read_term(path)?;
        let mut rows = Vec::new();
        for table in Table::ALL {
            rows.extend(all(table)?);
        }
        Book::from_rows(term, &rows).map_err(|damage| OpenError::Row {
            path: path.to_owned(),
            what: damage.what,
            source: damage.why,
        })
    }

    fn read_term(&self, path: &Path) -> Result<Term, OpenError> {
        let text = self.meta("term");
        let text = text.map_err(|source| OpenError::Open { path: path.to_owned(), source })?;
        let term = text.map_or(Ok(0), |text| text.parse());
        term.map(Term).map_err(|_| OpenError::Damaged {
            path: path.to_owned(),
            found: "the term is no number".to_owned(),
        })
    }

    fn rows(&self, table: Table) -> Result<Vec<Row>, rusqlite::Error> {
        let mut statement = self.connection.prepare(&format!("SELECT key, row FROM {}", table.name()))?;
        let rows = statement.query_map([], |row| Ok(Row { table, key: row.get(0)?, bytes: row.get(1)? }))?;
        rows.collect()
    }

    /// A text beside the rows.
    pub(super) fn meta(&self, key: &str) -> Result<Option<String>, rusqlite::Error> {
        let query = "SELECT value FROM meta WHERE key = ?1";
        self.connection.query_row(query, [key], |row| row.get(0)).optional()
    }

    pub(super) fn set_meta(&self, key: &str, value: &str) -> Result<(), rusqlite::Error> {
        let query = "INSERT INTO meta VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = excluded.value";
        self.connection.execute(query, [key, value]).map(drop)
    }

    /// The disk has room for so many more pages.
    #[cfg(test)]
    pub(super) fn leave_room(&self, pages: u32) {
        let count: u32 = self.connection.pragma_query_value(None, "page_count", |row| row.get(0)).unwrap();
        let limit = |row: &rusqlite::Row<'_>| row.get::<_, u32>(0);
        self.connection.pragma_update_and_check(None, "max_page_count", count + pages, limit).unwrap();
    }

    /// All of it durably, or nothing; `deed` is what it notes.
    pub(super) fn commit(&mut self, deed: Deed, writes: &[Write]) -> Result<(), CommitError> {
        let transaction = self.connection.transaction().map_err(CommitError::Undone)?;
        for write in writes {
            // Dropping the transaction rolls it back.
            put(&transaction, write).map_err(CommitError::Undone)?;
        }
        #[cfg(test)]
        if self.crash.as_mut().is_some_and(|crash| crash(CrashPoint::BeforeCommit)) {
            return Err(CommitError::Crash);
        }
        deed.between_now(|| transaction.commit()).map_err(|error| match error.sqlite_error_code() {
            Some(rusqlite::ErrorCode::DiskFull | rusqlite::ErrorCode::DatabaseBusy) => {
                CommitError::Undone(error)
            }
            Some(_) | None => CommitError::Unknown(error),
        })?;
        #[cfg(test)]
        if self.crash.as_mut().is_some_and(|crash| crash(CrashPoint::AfterCommit)) {
            return Err(CommitError::Crash);
        }
        Ok(())
    }
}

/// Made here and not by SQLite, so that it is nobody else's from the first instant; its log inherits the mode.
fn create(path: &Path) -> Result<(), OpenError> {
    let created = OpenOptions::new().create(true).append(true).mode(0o600).open(path);
    created.map(drop).map_err(|source| OpenError::Create { path: path.to_owned(), source })
}

fn prepare(connection: &Connection) -> Result<(), rusqlite::Error> {
    connection.busy_timeout(LOCK_TIMEOUT)?;
    // Held from the first access until the process ends: two agents on one ledger could both be right.
    connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.execute_batch(TABLES)
}

fn check_file(connection: &Connection, path: &Path) -> Result<(), OpenError> {
    let found = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0));
    let found = found.unwrap_or_else(|error| error.to_string());
    match found.as_str() {
        "ok" => Ok(()),
        _ => Err(OpenError::Damaged { path: path.to_owned(), found }),
    }
}

fn is_damage(error: &rusqlite::Error) -> bool {
    let code = error.sqlite_error_code();
    matches!(code, Some(rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase))
}

fn put(transaction: &Transaction<'_>, write: &Write) -> Result<(), rusqlite::Error> {
    let put = |row: Row| {
        let query = format!(
            "INSERT INTO {} VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET row = excluded.row",
            row.table.name()
        );
        transaction.prepare_cached(&query)?.execute(params![row.key, row.bytes]).map(drop)
    };
    let forget = |table: Table, key: &str| {
        let query = format!("DELETE FROM {} WHERE key = ?1", table.name());
        transaction.prepare_cached(&query)?.execute([key]).map(drop)
    };
    match write {
        Write::Term(term) => {
            let query =
                "INSERT INTO meta VALUES ('term', ?1) ON CONFLICT (key) DO UPDATE SET value = excluded.value";
            transaction.execute(query, [term.to_string()]).map(drop)
        }
        Write::Pod(record) => put(Row::of_pod(record)),
        Write::Order(entry) => put(Row::of_order(entry)),
        Write::ForgetOrder(id) => forget(Table::Orders, id.as_str()),
        Write::Pool(pool) => put(Row::of_pool(pool)),
        Write::Offer(offer) => put(Row::of_offer(offer)),
        Write::ForgetOffer(pod) => forget(Table::Offers, &offer_key(pod)),
        Write::Attachment(attachment) => put(Row::of_attachment(attachment)),
        Write::ForgetAttachment(key) => forget(Table::Attachments, &attachment_key(key)),
        Write::Tenure(number, tenure) => put(Row::of_tenure(*number, tenure)),
        Write::ForgetTenure(number) => forget(Table::Tenures, &number.to_string()),
    }
}
