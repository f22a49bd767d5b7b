// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The guest's side of an end-to-end test.
//!
//! The guest is Linux with its in-box `virtio_net` and one program, [`init`](init). The
//! harness talks to it in JSON lines over a virtio-serial port ([`protocol`]).
//!
//! Its centre is the *memory oracle* ([`backlog`]): UDP datagrams pile up unread, their
//! payloads lie where the NIC's DMA put them, and no CPU touches them until after the
//! migration. Whoever copied the guest's memory could learn of these pages from nothing
//! but the NIC's dirty log, so a page that the log lost shows as a wrong payload.

#![forbid(unsafe_code)]

pub mod backlog;
pub mod init;
pub mod net;
pub mod protocol;
pub mod service;
pub mod streams;
pub mod xdp;
