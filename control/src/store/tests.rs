use super::row::{Row, VERSION};
use super::*;
use crate::token::Token;
use prost::Message;
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(20);

fn open(dir: &Path) -> Store {
    Store::open(&dir.join("control.db")).unwrap()
}

fn meta(term: u64) -> Write {
    let row = MetaRow { version: VERSION, term, ..MetaRow::default() };
    Write::Put { table: Table::Meta, key: "fleet".to_owned(), value: row.encode_to_vec() }
}

fn terms(store: &Store) -> Vec<u64> {
    let rows: Vec<(String, MetaRow)> = store.rows(Table::Meta).unwrap();
    rows.into_iter().map(|(_, row)| row.term).collect()
}

#[test]
fn what_was_written_is_there_after_a_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    assert!(terms(&store).is_empty());
    store.write(&[meta(1), meta(2)]).unwrap();
    drop(store);
    let mut store = open(dir.path());
    assert_eq!(terms(&store), [2]);
    store.write(&[Write::Delete { table: Table::Meta, key: "fleet".to_owned() }]).unwrap();
    assert!(terms(&open(dir.path())).is_empty());
}

/// A crash is a copy of the files, taken without closing anything.
#[test]
fn what_was_confirmed_survives_a_crash() {
    let (dir, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let writer = Writer::spawn(open(dir.path())).unwrap();
    for term in 1..=50 {
        let (done, wait) = mpsc::channel();
        writer
            .submit(Batch { writes: vec![meta(term)], after: Box::new(move || done.send(()).unwrap()) })
            .unwrap();
        wait.recv_timeout(PATIENCE).unwrap();
    }
    for entry in std::fs::read_dir(dir.path()).unwrap() {
        let entry = entry.unwrap();
        // The shared-memory index is made anew from the log.
        if !entry.file_name().to_string_lossy().ends_with("-shm") {
            std::fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
        }
    }
    assert_eq!(terms(&open(copy.path())), [50]);
}

#[test]
fn batches_become_durable_in_their_order() {
    let dir = tempfile::tempdir().unwrap();
    let writer = Writer::spawn(open(dir.path())).unwrap();
    let (done, order) = mpsc::channel();
    for term in 0..500 {
        let done = done.clone();
        let writes = if term % 3 == 0 { Vec::new() } else { vec![meta(term)] };
        writer.submit(Batch { writes, after: Box::new(move || done.send(term).unwrap()) }).unwrap();
    }
    for term in 0..500 {
        assert_eq!(order.recv_timeout(PATIENCE).unwrap(), term);
    }
    assert_eq!(terms(&open(dir.path())), [499]);
}

#[test]
fn files_that_are_not_ours_are_refused() {
    let check = |prepare: &dyn Fn(&Path), expected: &str| {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control.db");
        prepare(&path);
        let error = crate::error::chain(&Store::open(&path).unwrap_err());
        assert!(error.contains(expected), "{error}");
    };
    check(&|path| std::fs::write(path, "x".repeat(5_000)).unwrap(), "not a database");
    check(&|path| std::fs::create_dir(path).unwrap(), "open the file");
    check(
        &|path| {
            let other = rusqlite::Connection::open(path).unwrap();
            other.pragma_update(None, "application_id", 7).unwrap();
        },
        "is no store of berth-control",
    );
    check(
        &|path| {
            drop(Store::open(path).unwrap());
            let newer = rusqlite::Connection::open(path).unwrap();
            newer.pragma_update(None, "user_version", 9).unwrap();
        },
        "install the newer version",
    );
}

#[test]
fn an_older_schema_gains_the_tables_that_it_lacks() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("control.db");
    let mut store = open(dir.path());
    store.write(&[meta(7)]).unwrap();
    drop(store);
    let older = rusqlite::Connection::open(&path).unwrap();
    older.execute_batch("DROP TABLE rollouts; DROP TABLE rollout_pods; PRAGMA user_version = 1").unwrap();
    drop(older);
    let store = open(dir.path());
    assert_eq!(terms(&store), [7]);
    assert!(store.rows::<RolloutRow>(Table::Rollouts).unwrap().is_empty());
    drop(store);
    open(dir.path());
}

#[test]
fn rows_of_another_version_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    let newer = MetaRow { version: VERSION + 1, ..MetaRow::default() };
    store
        .write(&[Write::Put { table: Table::Meta, key: "fleet".to_owned(), value: newer.encode_to_vec() }])
        .unwrap();
    let error = store.rows::<MetaRow>(Table::Meta).unwrap_err().to_string();
    assert!(error.contains("its version is 2"), "{error}");
    assert_eq!(newer.version(), VERSION + 1);
}

#[test]
fn a_token_works_once_for_whom_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    let mut check =
        |bound: Option<&str>, binding: Binding, now_ms: u64, expected: Result<(), TokenRefusal>| {
            let token = Token::generate("ab".repeat(32)).unwrap();
            store
                .add_token(&TokenRow {
                    version: VERSION,
                    id: token.id.clone(),
                    secret_hash: token.secret_hash(),
                    node: bound.map(str::to_owned),
                    created_at_ms: 0,
                    expires_at_ms: 100,
                    used_by: None,
                })
                .unwrap();
            let first = store.use_token(&token, "n1", binding, now_ms).unwrap();
            assert_eq!(first, expected, "{bound:?} {binding:?} {now_ms}");
            let second = store.use_token(&token, "n1", binding, now_ms).unwrap();
            let used = TokenRefusal::Used("n1".to_owned());
            assert_eq!(second, expected.and(Err(used)));
        };
    check(None, Binding::Any, 99, Ok(()));
    check(Some("n1"), Binding::Any, 0, Ok(()));
    check(Some("n1"), Binding::ToNode, 0, Ok(()));
    check(None, Binding::Any, 100, Err(TokenRefusal::Expired));
    check(Some("n2"), Binding::Any, 0, Err(TokenRefusal::OtherNode("n2".to_owned())));
    check(None, Binding::ToNode, 0, Err(TokenRefusal::Unbound("n1".to_owned())));
}

#[test]
fn unknown_forged_and_revoked_tokens() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    let (token, other) = (Token::generate(String::new()).unwrap(), Token::generate(String::new()).unwrap());
    store
        .add_token(&TokenRow {
            version: VERSION,
            id: token.id.clone(),
            secret_hash: other.secret_hash(),
            expires_at_ms: 100,
            ..TokenRow::default()
        })
        .unwrap();
    for token in [&token, &other] {
        let refused = store.use_token(token, "n1", Binding::Any, 0).unwrap();
        assert_eq!(refused, Err(TokenRefusal::Unknown));
    }
    assert!(store.revoke_token(&token.id).unwrap());
    assert!(!store.revoke_token(&token.id).unwrap());
    assert!(store.tokens().unwrap().is_empty());
}
