//! What dbvault does for its user: joins sources and the repository.
