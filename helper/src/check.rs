//! `mount.fuse4fs --check`: can a server be reached, and what does it speak?

use crate::connect;
use crate::options::Options;
use crate::report::{Explain, Failure};
use crate::session::Session;
use crate::spawn::Start;
use crate::sys::signal;
use crate::user;

/// One line about the server.
pub(crate) fn run(lists: &[String]) -> Result<String, Failure> {
    let options = Options::parse(lists, false)?;
    let privilege = user::privilege()?;
    let start = Start { privilege, log: options.log.as_deref(), log_to_stderr: false };
    let contact = connect::reach(&options.server, &start)?;
    let origin = contact.origin.clone();
    let interruptions = signal::interruptions().or_system_failure("cannot wait for signals")?;
    let session = Session::new(contact, interruptions, options.server_timeout).greet()?;
    let welcome = &session.state.welcome;
    let line = format!("{}, protocol {}, by {origin}\n", welcome.server, welcome.version);
    session.farewell();
    Ok(line)
}
