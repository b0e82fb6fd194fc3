//! Tokens in the store. They are handled in the file itself, because `berth-control token` runs beside the service.

use super::file::{apply, decode};
use super::row::{TokenRow, VERSION};
use super::{Store, StoreError, Table, Write};
use crate::token::Token;
use prost::Message;
use rusqlite::{OptionalExtension, Transaction, TransactionBehavior};

/// Most tokens, used and expired ones included, before the oldest dead ones are forgotten.
const MAX_TOKENS: usize = 10_000;

/// Why a token does not let a node in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TokenRefusal {
    /// There is none of that id, or the secret is another one.
    #[error("token is unknown: berth-control token list shows those that are not used up")]
    Unknown,
    /// It was used before.
    #[error(
        "token was used already, by node {0}: it lets one node in once; make another by berth-control token create"
    )]
    Used(String),
    /// It is too late.
    #[error("token has expired: make another by berth-control token create, or one that lasts by --ttl")]
    Expired,
    /// It is for another node.
    #[error(
        "token is for node {0}: join under that name (berthd join --name), or make another by berth-control token create"
    )]
    OtherNode(String),
    /// The node has joined before, and anyone's token must not take its name.
    #[error("node {0} has joined before: only a token made with --node {0} lets it join again")]
    Unbound(String),
}

/// Whether a token must name the node that uses it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Binding {
    /// Any token will do.
    Any,
    /// Only one that names the node.
    ToNode,
}

impl Store {
    /// Writes a new token down.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn add_token(&mut self, row: &TokenRow) -> Result<(), StoreError> {
        let mut tokens = self.tokens()?;
        tokens.sort_by_key(|row| row.created_at_ms);
        let dead = |old: &&TokenRow| old.used_by.is_some() || old.expires_at_ms <= row.created_at_ms;
        let excess = (tokens.len() + 1).saturating_sub(MAX_TOKENS);
        let mut writes: Vec<Write> = tokens
            .iter()
            .filter(dead)
            .take(excess)
            .map(|old| Write::Delete { table: Table::Tokens, key: old.id.clone() })
            .collect();
        writes.push(put(row));
        self.write(&writes)
    }

    /// All tokens.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn tokens(&self) -> Result<Vec<TokenRow>, StoreError> {
        let rows = self.rows(Table::Tokens)?;
        Ok(rows.into_iter().map(|(_, row)| row).collect())
    }

    /// Forgets a token; false when there is none of that id.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn revoke_token(&mut self, id: &str) -> Result<bool, StoreError> {
        let known = self.tokens()?.iter().any(|row| row.id == id);
        self.write(&[Write::Delete { table: Table::Tokens, key: id.to_owned() }])?;
        Ok(known)
    }

    /// Looks at a token and marks it used, in one transaction.
    pub(crate) fn use_token(
        &mut self,
        token: &Token,
        node: &str,
        binding: Binding,
        now_ms: u64,
    ) -> Result<Result<(), TokenRefusal>, StoreError> {
        let writing = "use a token";
        let path = self.connection.path().unwrap_or_default().to_owned();
        let wrap = |source| StoreError::Sqlite { what: writing, path: path.clone().into(), source };
        let transaction =
            self.connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(wrap)?;
        let Some(value) = value_of(&transaction, &token.id).map_err(wrap)? else {
            return Ok(Err(TokenRefusal::Unknown));
        };
        let mut row: TokenRow = decode(Table::Tokens, &token.id, &value)?;
        if let Err(refusal) = check(&row, token, node, binding, now_ms) {
            return Ok(Err(refusal));
        }
        row.used_by = Some(node.to_owned());
        apply(&transaction, &put(&row)).map_err(wrap)?;
        transaction.commit().map_err(wrap)?;
        Ok(Ok(()))
    }
}

fn value_of(transaction: &Transaction<'_>, id: &str) -> rusqlite::Result<Option<Vec<u8>>> {
    transaction.query_row("SELECT value FROM tokens WHERE key = ?1", [id], |row| row.get(0)).optional()
}

fn put(row: &TokenRow) -> Write {
    let row = TokenRow { version: VERSION, ..row.clone() };
    Write::Put { table: Table::Tokens, key: row.id.clone(), value: row.encode_to_vec() }
}

fn check(
    row: &TokenRow,
    token: &Token,
    node: &str,
    binding: Binding,
    now_ms: u64,
) -> Result<(), TokenRefusal> {
    // Hashes are compared, so the time that takes says nothing about the secret.
    if row.secret_hash != token.secret_hash() {
        return Err(TokenRefusal::Unknown);
    }
    if let Some(by) = &row.used_by {
        return Err(TokenRefusal::Used(by.clone()));
    }
    if now_ms >= row.expires_at_ms {
        return Err(TokenRefusal::Expired);
    }
    match (&row.node, binding) {
        (Some(bound), _) if bound != node => Err(TokenRefusal::OtherNode(bound.clone())),
        (Some(_), _) | (None, Binding::Any) => Ok(()),
        (None, Binding::ToNode) => Err(TokenRefusal::Unbound(node.to_owned())),
    }
}
