//! The harness of the black-box tests: images, truths, walkers, mounts and their cleaning up.
//!
//! A tree is a [`tree::Tree`] whoever tells it: a truth file ([`truth`]), the engine in this process
//! ([`engine_walk`]) or a mounted path ([`mount_walk`]); [`tree::Tree::differences`] compares two.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::indexing_slicing,
    reason = "test code"
)]

pub mod apply;
pub mod attached;
pub mod clients;
pub mod command;
pub mod connection;
pub mod content;
pub mod crash;
pub mod engine_walk;
pub mod faulty;
pub mod fuzz;
pub mod host;
pub mod image;
pub mod load;
pub mod mount_walk;
pub mod operation;
pub mod populate;
pub mod product;
pub mod shared;
pub mod sys;
pub mod tree;
pub mod trial;
pub mod truth;
pub mod uring;
pub mod watchdog;
