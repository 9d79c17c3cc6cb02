//! codex-relay: a gateway that tenants call as if it were the LLM provider, and that calls the provider with the
//! operator's own accounts.
//!
//! The modules in the order in which a request meets them:
//!
//! | module | what it is |
//! | --- | --- |
//! | [`listen`] | accepting connections; the life of one |
//! | [`request`] | **the path**: what happens to one request, on one page; its stages are the submodules |
//! | [`limits`], [`connections`] | what the stages count: what tenants use, requests in flight, connections of everybody |
//! | [`accounts`], [`choice`], [`affinity`], [`health`] | whom they ask: who may, who is well, whose conversation it is |
//! | [`waiting`], [`budget`] | what bounds that: places to wait in, further attempts |
//! | [`tls`] | certificates and keys: what is shown to clients, and whom the gateway trusts |
//! | [`upstreams`] | kept connections to providers |
//! | [`journal`] | what a worker reports when a request is over, and what is kept of it |
//! | [`usage`] | sums of that, by tenant, key, model and day |
//! | [`worker`] | one thread's world |
//! | [`control`] | the other thread: log, metrics, admin API, names, probes, signals |
//! | [`kernel`] | what the kernel enforces for it, and what is missing |
//! | [`config`], [`headers`] | from a TOML file to a `Policy` |
//! | [`state`] | what is known of the accounts, over restarts |
//! | [`start`] | putting it together |
//! | [`demo`], [`keys`] | a provider of our own to try the gateway with; tenant keys |
//!
//! Deliberately absent: locks, logging and allocation per event on the path of a request; a path per protocol; anything
//! that keeps a body.
#![forbid(unsafe_code)]

pub mod accounts;
pub mod affinity;
pub mod budget;
pub mod choice;
pub mod config;
pub mod connections;
pub mod control;
pub mod demo;
pub mod headers;
pub mod health;
pub mod journal;
pub mod kernel;
pub mod keys;
pub mod limits;
pub mod listen;
pub mod request;
pub mod start;
pub mod state;
pub mod tls;
pub mod upstreams;
pub mod usage;
pub mod waiting;
pub mod worker;

pub use start::run;
