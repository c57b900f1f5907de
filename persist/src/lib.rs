//! The durable half: the log, recovery, snapshots and the export to Postgres.
