//! End-to-end tests: the real binaries, started as a user starts them. `make test` builds those first.

mod agreement;
mod backend;
mod buckets;
mod demo_life;
mod demo_mesh;
mod dependencies;
mod foreign_clients;
mod grafana;
mod kill_loop;
mod malformed;
mod prometheus;
mod reload;
mod remote_read;
mod restart;
mod rules;
mod scrape_pools;
mod storage_tools;
mod table_readers;
