//! One request of a ring: where its parts are, and its answer.
//!
//! Source: linux/fuse.h, `struct fuse_uring_req_header`.

use std::time::Instant;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::super::abi::{InHeader, OutHeader, opcode};
use super::super::body::Body;
use super::super::operations::Operations;
use super::super::reply::{Buffer, Output};
use super::super::request::Call;
use super::super::serve::{Answer, Frontend};
use crate::sys::arena;

/// `struct fuse_uring_req_header`; `payload_sz` in bytes, both ways.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct Header {
    in_out: [u8; 128],
    op_in: [u8; 128],
    flags: u64,
    commit_id: u64,
    payload_sz: u32,
    padding: u32,
    reserved: u64,
}

/// Bytes of [`Header`].
pub(super) const HEADER: usize = size_of::<Header>();
const _: () = assert!(HEADER == 288);

/// Room for what stands in an entry's payload, as the reply goes there: names, and values of
/// extended attributes. What is larger is file data.
pub(super) const SCRATCH: usize = 128 << 10;

/// A request in the memory of an entry.
#[derive(Debug)]
pub(super) struct Entry {
    memory: arena::Entry,
    /// The CPU whose queue it belongs to.
    pub(super) queue: u16,
    opcode: u32,
    /// When it came.
    pub(super) since: Instant,
}

impl Entry {
    /// A request that has come just now.
    pub(super) fn new(memory: arena::Entry, queue: u16) -> Self {
        Self::since(Instant::now(), memory, queue)
    }

    /// A request that came at `since`.
    pub(super) fn since(since: Instant, memory: arena::Entry, queue: u16) -> Self {
        let opcode = parse(memory.header()).map_or(0, |(_, request)| request.opcode);
        Self { memory, queue, opcode, since }
    }

    /// Counts it, with the answer that it was [`Entry::seal`]ed with.
    pub(super) fn count(&self, operations: &Operations) {
        let answer = Header::ref_from_bytes(self.memory.header())
            .ok()
            .and_then(|header| OutHeader::read_from_prefix(&header.in_out).ok());
        operations.record(self.opcode, self.since, answer.is_some_and(|(it, _)| it.error != 0));
    }

    pub(super) fn into_memory(self) -> arena::Entry {
        self.memory
    }

    /// What the kernel calls this request when its answer is handed back.
    pub(super) fn commit_id(&self) -> u64 {
        Header::ref_from_bytes(self.memory.header()).map_or(0, |header| header.commit_id)
    }

    /// What INTERRUPT calls this request.
    pub(super) fn unique(&self) -> u64 {
        parse(self.memory.header()).map_or(0, |(_, request)| request.unique)
    }

    /// Runs `work` on the request, if it is one. Nothing is copied, so it cannot be answered there.
    pub(super) fn look<T>(
        &mut self,
        frontend: &Frontend,
        work: impl FnOnce(&Call<'_>) -> T,
    ) -> Option<T> {
        let (header, payload) = self.memory.parts();
        let (header, request) = parse(header)?;
        let payload = payload.get(..usize::try_from(header.payload_sz).ok()?)?;
        let body = Body::Split { op_in: &header.op_in, payload };
        frontend.decode(&request, body).ok().map(|call| work(&call))
    }

    /// Serves the request. The reply is in the payload then and has to be [`Entry::seal`]ed.
    pub(super) fn serve(&mut self, frontend: &Frontend, scratch: &mut Buffer) -> (Answer, usize) {
        let (header, payload) = self.memory.parts();
        let parsed = parse(header).and_then(|(header, request)| {
            let len = usize::try_from(header.payload_sz).ok()?;
            (len <= payload.len()).then_some((header, request, len))
        });
        let Some((header, request, len)) = parsed else {
            tracing::warn!("what came through a ring is no request");
            return (Answer::Error(fuser::Errno::EIO), 0);
        };
        let scratch = scratch.bytes();
        // The request's bytes and the reply's share the payload; the smaller ones go elsewhere.
        if is_data(&request, len) {
            let (asked, _) = payload.split_at(len);
            let (answer, len) = dispatch(frontend, &request, (&header.op_in, asked), scratch);
            // Without a reply the request may be served again.
            if !matches!(answer, Answer::Reply | Answer::Last) {
                return (answer, 0);
            }
            let reply = scratch.iter().take(len);
            payload.iter_mut().zip(reply).for_each(|(to, from)| *to = *from);
            return (answer, len);
        }
        for (to, from) in scratch.iter_mut().zip(payload.iter().take(len)) {
            *to = *from;
        }
        let asked = scratch.get(..len).unwrap_or_default();
        dispatch(frontend, &request, (&header.op_in, asked), payload)
    }

    /// Puts back what [`Entry::serve`] has taken out to `scratch`, so that it can be called again.
    pub(super) fn restore(&mut self, scratch: &mut Buffer) {
        let (header, payload) = self.memory.parts();
        let Some((header, request)) = parse(header) else { return };
        let len = usize::try_from(header.payload_sz).unwrap_or(0);
        if is_data(&request, len) {
            return;
        }
        for (to, from) in payload.iter_mut().zip(scratch.bytes().iter().take(len)) {
            *to = *from;
        }
    }

    /// All of the payload, for file data.
    pub(super) fn payload(&mut self) -> &mut [u8] {
        self.memory.parts().1
    }

    /// Writes down the answer, of which `len` bytes are in the payload.
    pub(super) fn seal(&mut self, answer: Answer, len: usize) {
        let (header, _) = self.memory.parts();
        let Ok(header) = Header::mut_from_bytes(header) else { return };
        let unique =
            InHeader::read_from_prefix(&header.in_out).map_or(0, |(asked, _)| asked.unique);
        let (error, len) = match answer {
            Answer::Error(errno) => (errno.code().saturating_neg(), 0),
            _ => (0, len),
        };
        let asked = usize::try_from(header.payload_sz).unwrap_or(0);
        let total = len.saturating_add(size_of::<OutHeader>());
        let reply = OutHeader { len: u32::try_from(total).unwrap_or(0), error, unique };
        for (to, from) in header.in_out.iter_mut().zip(reply.as_bytes()) {
            *to = *from;
        }
        header.payload_sz = u32::try_from(len).unwrap_or(0);
        self.memory.settle(asked.max(len), len);
    }
}

fn parse(header: &[u8]) -> Option<(&Header, InHeader)> {
    let header = Header::ref_from_bytes(header).ok()?;
    let (request, _) = InHeader::read_from_prefix(&header.in_out).ok()?;
    Some((header, request))
}

/// Whether the request stays in the payload while it is served, and the reply is made elsewhere.
fn is_data(request: &InHeader, len: usize) -> bool {
    request.opcode == opcode::WRITE || len > SCRATCH
}

fn dispatch(
    frontend: &Frontend,
    request: &InHeader,
    (op_in, payload): (&[u8], &[u8]),
    room: &mut [u8],
) -> (Answer, usize) {
    let mut out = Output::new(room);
    let answer = match frontend.decode(request, Body::Split { op_in, payload }) {
        Ok(call) => frontend.serve(&call, &mut out),
        Err(refused) => refused,
    };
    (answer, out.len())
}
