//! Parts that only tests use: faulty storages, private servers, data makers.

pub mod crashing_storage;
pub mod dump_series;
pub mod faulty_storage;
pub mod mariadb_server;
mod noise;
pub mod package;
pub mod postgres_server;
pub mod recording_storage;
pub mod redis_server;
pub mod scheduler;
pub mod storage_conformance;
pub mod tier;

pub use noise::noise;
