//! The promises of the kernel side, each shown on the kernel that this runs on. Needs root; says so and passes without it.

#![allow(unsafe_code)] // system calls that no library offers: the programs' own socket options, namespaces, a raw ring

mod capabilities;
mod caps;
mod churn;
mod events;
mod groups;
mod harness;
mod inbound;
mod lifetime;
mod links;
mod migration;
mod pin;
mod ports;
mod reconcile;
mod refuse;
mod ring;
mod steering;
mod syn;
