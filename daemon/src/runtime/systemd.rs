//! systemd over D-Bus: slices of pods and scopes of containers, and their properties.
//!
//! What systemd models is told to systemd, because a daemon-reload writes every cgroup attribute anew from the units'
//! properties. The connection is made when it is needed, and made again when the bus has gone.

use super::RuntimeError;
use super::error::{chain, permanent, transient};
use crate::crash_point::Deed;
use berth_cgroup::{PropertyValue, UnitProperty};
use std::future::Future;
use std::time::Duration;
use tokio::sync::Mutex;
use zbus_systemd::systemd1::{ManagerProxy, UnitProxy};
use zbus_systemd::zbus::{Connection, Error, OwnedVariant, Result as BusResult, Variant};

/// A call; systemd answers while it starts and stops other things.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// Until a slice is there, or is gone with all that was in it.
const JOB_DEADLINE: Duration = Duration::from_secs(120);
const JOB_POLL: Duration = Duration::from_millis(20);

/// A connection to systemd.
#[derive(Debug, Default)]
pub(super) struct Systemd {
    connection: Mutex<Option<Connection>>,
}

/// Where a unit is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum UnitState {
    /// Not loaded, or inactive.
    Inactive,
    /// Its last stop or start failed.
    Failed,
    /// On its way.
    Changing,
    /// Active.
    Active,
}

impl Systemd {
    /// Makes a slice with these properties, or sets them on the slice that is there.
    pub(super) async fn ensure_slice(
        &self,
        name: &str,
        properties: &[UnitProperty],
    ) -> Result<(), RuntimeError> {
        match self.state(name).await? {
            UnitState::Active => return self.set_properties(name, properties).await,
            UnitState::Failed => self.reset_failed(name).await?,
            UnitState::Inactive | UnitState::Changing => {}
        }
        let what = format!("start {name}");
        let description = ("Description".to_owned(), text(&what, "Pod of Berth")?);
        let mut values = to_bus(&what, properties)?;
        values.push(description);
        let start = self.call(&what, async |manager: ManagerProxy<'_>| {
            let mode = "replace".to_owned();
            manager.start_transient_unit(name.to_owned(), mode, values.clone(), Vec::new()).await
        });
        Deed::StartSlice.between(start).await?;
        self.await_state(name, &what, |state| state == UnitState::Active).await
    }

    /// Starts a unit that is installed, or a slice, which needs no file.
    pub(super) async fn start(&self, name: &str) -> Result<(), RuntimeError> {
        if self.state(name).await? == UnitState::Active {
            return Ok(());
        }
        let what = format!("start {name}");
        let start = self.call(&what, async |manager: ManagerProxy<'_>| {
            manager.start_unit(name.to_owned(), "replace".to_owned()).await
        });
        Deed::StartSlice.between(start).await?;
        self.await_state(name, &what, |state| state == UnitState::Active).await
    }

    /// Sets properties of a unit that is there, until the next boot.
    pub(super) async fn set_properties(
        &self,
        name: &str,
        properties: &[UnitProperty],
    ) -> Result<(), RuntimeError> {
        let what = format!("set properties of {name}");
        let values = to_bus(&what, properties)?;
        let set = self.call(&what, async |manager: ManagerProxy<'_>| {
            manager.set_unit_properties(name.to_owned(), true, values.clone()).await
        });
        Deed::SetProperties.between(set).await
    }

    /// Stops a unit and all that is in it, and forgets it. One that is not there is stopped.
    pub(super) async fn stop(&self, name: &str) -> Result<(), RuntimeError> {
        let what = format!("stop {name}");
        if matches!(self.state(name).await?, UnitState::Active | UnitState::Changing) {
            let stop = self.call(&what, async |manager: ManagerProxy<'_>| {
                absent_is_fine(manager.stop_unit(name.to_owned(), "replace".to_owned()).await.map(drop))
            });
            Deed::StopSlice.between(stop).await?;
        }
        let ended = |state| matches!(state, UnitState::Inactive | UnitState::Failed);
        self.await_state(name, &what, ended).await?;
        self.reset_failed(name).await
    }

    /// Where a unit is.
    pub(super) async fn state(&self, name: &str) -> Result<UnitState, RuntimeError> {
        let what = format!("look at {name}");
        let state = self
            .call(&what, async |manager: ManagerProxy<'_>| {
                let path = match manager.get_unit(name.to_owned()).await {
                    Ok(path) => path,
                    Err(error) if is_no_such_unit(&error) => return Ok(None),
                    Err(error) => return Err(error),
                };
                let unit = UnitProxy::new(manager.inner().connection(), path).await?;
                // A unit may be unloaded between the two questions.
                unit.active_state().await.map(Some).or_else(|error| match is_unknown_object(&error) {
                    true => Ok(None),
                    false => Err(error),
                })
            })
            .await?;
        Ok(match state.as_deref() {
            None | Some("inactive") => UnitState::Inactive,
            Some("failed") => UnitState::Failed,
            Some("active" | "reloading" | "refreshing") => UnitState::Active,
            Some(_) => UnitState::Changing,
        })
    }

    async fn reset_failed(&self, name: &str) -> Result<(), RuntimeError> {
        self.call(&format!("reset {name}"), async |manager: ManagerProxy<'_>| {
            absent_is_fine(manager.reset_failed_unit(name.to_owned()).await)
        })
        .await
    }

    async fn await_state(
        &self,
        name: &str,
        what: &str,
        wanted: impl Fn(UnitState) -> bool,
    ) -> Result<(), RuntimeError> {
        let reached = async {
            while !wanted(self.state(name).await?) {
                tokio::time::sleep(JOB_POLL).await;
            }
            Ok(())
        };
        match tokio::time::timeout(JOB_DEADLINE, reached).await {
            Ok(answer) => answer,
            Err(_) => Err(transient(what, format!("not done in {} s", JOB_DEADLINE.as_secs()))),
        }
    }

    /// One question to the manager, in time, on a connection that is made if need be.
    async fn call<T, F>(
        &self,
        what: &str,
        question: impl FnOnce(ManagerProxy<'static>) -> F,
    ) -> Result<T, RuntimeError>
    where
        F: Future<Output = BusResult<T>>,
    {
        let answer = async {
            let connection = self.connected().await?;
            question(ManagerProxy::new(&connection).await?).await
        };
        match tokio::time::timeout(CALL_TIMEOUT, answer).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => {
                self.drop_if_broken(&error).await;
                Err(judge(what, &error))
            }
            Err(_) => Err(transient(what, format!("systemd gave no answer in {} s", CALL_TIMEOUT.as_secs()))),
        }
    }

    async fn connected(&self) -> BusResult<Connection> {
        let mut connection = self.connection.lock().await;
        match &*connection {
            Some(connection) => Ok(connection.clone()),
            None => Ok(connection.insert(Connection::system().await?).clone()),
        }
    }

    async fn drop_if_broken(&self, error: &Error) {
        if matches!(error, Error::InputOutput(_) | Error::Handshake(_)) {
            *self.connection.lock().await = None;
        }
    }
}

/// systemd's own errors about a request's content will be the same tomorrow.
fn judge(what: &str, error: &Error) -> RuntimeError {
    const HOPELESS: [&str; 4] = [
        "org.freedesktop.DBus.Error.InvalidArgs",
        "org.freedesktop.DBus.Error.PropertyReadOnly",
        "org.freedesktop.DBus.Error.AccessDenied",
        "org.freedesktop.systemd1.BadUnitSetting",
    ];
    match error_name(error) {
        Some(name) if HOPELESS.contains(&name.as_str()) => permanent(what, chain(error)),
        Some(_) | None => transient(what, chain(error)),
    }
}

fn error_name(error: &Error) -> Option<String> {
    use zbus_systemd::zbus::DBusError;
    match error {
        Error::MethodError(name, _, _) => Some(name.to_string()),
        Error::FDO(error) => Some(error.name().to_string()),
        _ => None,
    }
}

fn is_no_such_unit(error: &Error) -> bool {
    error_name(error).is_some_and(|name| name == "org.freedesktop.systemd1.NoSuchUnit")
}

fn is_unknown_object(error: &Error) -> bool {
    error_name(error).is_some_and(|name| name == "org.freedesktop.DBus.Error.UnknownObject")
}

fn absent_is_fine(answer: BusResult<()>) -> BusResult<()> {
    match answer {
        Err(error) if is_no_such_unit(&error) => Ok(()),
        other => other,
    }
}

fn to_bus(what: &str, properties: &[UnitProperty]) -> Result<Vec<(String, OwnedVariant)>, RuntimeError> {
    properties.iter().map(|property| Ok((property.name.to_owned(), value(what, &property.value)?))).collect()
}

fn value(what: &str, value: &PropertyValue) -> Result<OwnedVariant, RuntimeError> {
    let variant = match value {
        PropertyValue::U64(number) => Variant::from(*number),
        PropertyValue::Bytes(bytes) => Variant::from(bytes.clone()),
        PropertyValue::PathU64(entries) => Variant::from(entries.clone()),
    };
    OwnedVariant::try_from(variant).map_err(|error| permanent(what, error))
}

fn text(what: &str, text: &str) -> Result<OwnedVariant, RuntimeError> {
    OwnedVariant::try_from(Variant::from(text)).map_err(|error| permanent(what, error))
}
