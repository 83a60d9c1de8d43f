//! The proxy from outside: real listeners on loopback, echo servers behind it, receivers for what it
//! tells. One binary, so that it links once.

mod conformance;
mod http_client;
mod protocols;
mod receivers;
mod reload;
mod routing;
mod telemetry;
mod world;
