//! Parts that only tests use: faulty storages, private servers, data makers.

pub mod postgres_server;
