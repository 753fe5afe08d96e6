//! A temporary directory of our own that goes with us, however we end.

use std::path::Path;

use crate::Result;
use crate::private_server::PrivateServer;

/// Nothing of it is to survive.
const END_SIGNAL: &str = "KILL";

/// A directory that nobody else can enter; dropping it removes it with all that is in it.
#[derive(Debug)]
pub struct PrivateDirectory(PrivateServer);

impl PrivateDirectory {
    /// Makes one. What waits beside it for our end is a server that does nothing.
    pub fn make() -> Result<PrivateDirectory> {
        let mut server = PrivateServer::prepare("tail", "dbvault-db-", None)?;
        server.start(Path::new("tail"), END_SIGNAL, |program| program.args(["-f", "/dev/null"]))?;
        Ok(PrivateDirectory(server))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.0.path()
    }
}
