//! The file: schema, reading everything, applying writes.

use super::row::{Row, VERSION};
use super::{Table, Write};
use rusqlite::{Connection, OpenFlags, Transaction};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// "Brth", so that `file(1)` and we can tell this file from another program's.
const APPLICATION_ID: i32 = 0x4272_7468;
/// Of the tables; rows have versions of their own.
const SCHEMA_VERSION: i32 = 2;
/// How long a writer waits for the other one: the service, or a command of the administrator.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// The store could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// SQLite says no.
    #[error("{what} in store {path}")]
    Sqlite {
        /// What we tried.
        what: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why it failed.
        source: rusqlite::Error,
    },
    /// The file is someone else's.
    #[error("{0} is no store of berth-control")]
    Foreign(PathBuf),
    /// The file was written by a later version of this program.
    #[error(
        "store {path} has schema {found}, this berth-control knows {SCHEMA_VERSION}: install the newer version"
    )]
    Newer {
        /// Which file.
        path: PathBuf,
        /// Its schema.
        found: i32,
    },
    /// A row cannot be read.
    #[error("row {key:?} of table {table} cannot be read: {why}")]
    Row {
        /// Which table.
        table: &'static str,
        /// Which row.
        key: String,
        /// Why.
        why: String,
    },
}

/// An open store.
#[derive(Debug)]
pub struct Store {
    pub(crate) connection: Connection,
    path: PathBuf,
}

impl Store {
    /// Opens the file, making it if it is not there.
    ///
    /// # Errors
    /// When it cannot be opened, is another program's, or newer than this one.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX
            | OpenFlags::SQLITE_OPEN_NOFOLLOW;
        let connection =
            Connection::open_with_flags(path, flags).map_err(|source| wrap("open the file", path, source))?;
        let mut store = Self { connection, path: path.to_owned() };
        store.prepare().map_err(|source| store.wrap("prepare the file", source))?;
        store.check_schema()?;
        Ok(store)
    }

    pub(crate) fn wrap(&self, what: &'static str, source: rusqlite::Error) -> StoreError {
        wrap(what, &self.path, source)
    }

    fn prepare(&self) -> rusqlite::Result<()> {
        self.connection.busy_timeout(BUSY_TIMEOUT)?;
        self.connection.pragma_update(None, "journal_mode", "wal")?;
        // WAL alone may lose the last commits with the power; an acknowledged order must not be lost.
        self.connection.pragma_update(None, "synchronous", "full")
    }

    fn pragma(&self, name: &str) -> Result<i32, StoreError> {
        self.connection
            .pragma_query_value(None, name, |row| row.get(0))
            .map_err(|source| self.wrap("look at the schema", source))
    }

    fn check_schema(&mut self) -> Result<(), StoreError> {
        let (application, found) = (self.pragma("application_id")?, self.pragma("user_version")?);
        match (application, found) {
            (0, 0) => self.create().map_err(|source| self.wrap("make the tables", source)),
            (APPLICATION_ID, SCHEMA_VERSION) => Ok(()),
            // Up to now schemas have only gained tables.
            (APPLICATION_ID, 1..SCHEMA_VERSION) => {
                self.create().map_err(|source| self.wrap("add the tables of a newer schema", source))
            }
            (APPLICATION_ID, found) => Err(StoreError::Newer { path: self.path.clone(), found }),
            (_, _) => Err(StoreError::Foreign(self.path.clone())),
        }
    }

    fn create(&mut self) -> rusqlite::Result<()> {
        let transaction =
            self.connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        for table in Table::ALL {
            transaction.execute_batch(&format!(
                "CREATE TABLE IF NOT EXISTS {} (key TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT, WITHOUT ROWID",
                table.name()
            ))?;
        }
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.pragma_update(None, "user_version", SCHEMA_VERSION)?;
        transaction.commit()
    }

    /// All rows of a table, in the order of their keys.
    pub(crate) fn rows<R: Row>(&self, table: Table) -> Result<Vec<(String, R)>, StoreError> {
        let reading = |source| self.wrap("read rows", source);
        let mut statement = self
            .connection
            .prepare(&format!("SELECT key, value FROM {} ORDER BY key", table.name()))
            .map_err(reading)?;
        let rows = statement
            .query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, Vec<u8>>(1)?)))
            .map_err(reading)?;
        rows.map(|row| {
            let (key, value) = row.map_err(reading)?;
            let row = decode(table, &key, &value)?;
            Ok((key, row))
        })
        .collect()
    }

    /// Writes in one transaction.
    pub(crate) fn write(&mut self, writes: &[Write]) -> Result<(), StoreError> {
        let run = |connection: &mut Connection| {
            let transaction =
                connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
            writes.iter().try_for_each(|write| apply(&transaction, write))?;
            transaction.commit()
        };
        run(&mut self.connection).map_err(|source| self.wrap("write rows", source))
    }
}

fn wrap(what: &'static str, path: &Path, source: rusqlite::Error) -> StoreError {
    StoreError::Sqlite { what, path: path.to_owned(), source }
}

pub(crate) fn decode<R: Row>(table: Table, key: &str, value: &[u8]) -> Result<R, StoreError> {
    let error = |why: String| StoreError::Row { table: table.name(), key: key.to_owned(), why };
    let row = R::decode(value).map_err(|source| error(source.to_string()))?;
    match row.version() {
        VERSION => Ok(row),
        other => Err(error(format!("its version is {other}, known is {VERSION}"))),
    }
}

pub(crate) fn apply(transaction: &Transaction<'_>, write: &Write) -> rusqlite::Result<()> {
    match write {
        Write::Put { table, key, value } => transaction
            .prepare_cached(&format!("REPLACE INTO {} (key, value) VALUES (?1, ?2)", table.name()))?
            .execute((key, value)),
        Write::Delete { table, key } => transaction
            .prepare_cached(&format!("DELETE FROM {} WHERE key = ?1", table.name()))?
            .execute([key]),
    }
    .map(|_| ())
}
