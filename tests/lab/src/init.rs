//! PID 1 of the lab: it starts the supervisor proper and takes in whatever becomes an orphan, so that no zombie stays.

use anyhow::{Context, Result, ensure};
use nix::errno::Errno;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use std::process::Command;

/// Runs this program again, with the same arguments, as a child of PID 1; ends when it ends.
pub(crate) fn run() -> Result<()> {
    let program = std::env::current_exe().context("find this program")?;
    let child =
        Command::new(program).args(std::env::args_os().skip(1)).spawn().context("start the supervisor")?;
    let supervisor = Pid::from_raw(i32::try_from(child.id()).context("the supervisor's pid")?);
    loop {
        match waitpid(None, None) {
            Ok(WaitStatus::Exited(pid, code)) if pid == supervisor => {
                ensure!(code == 0, "the supervisor ended with {code}");
                return Ok(());
            }
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == supervisor => {
                anyhow::bail!("the supervisor was ended by {signal}");
            }
            // Another child: an orphan, which is now gone.
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error).context("wait for the supervisor"),
        }
    }
}
