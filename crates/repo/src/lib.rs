//! The engine: what is stored where, and when does an archive exist?
