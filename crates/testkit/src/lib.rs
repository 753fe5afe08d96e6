//! Parts that only tests use: faulty storages, private servers, data makers.

pub mod dump_series;
pub mod postgres_server;
