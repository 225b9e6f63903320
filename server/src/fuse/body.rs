//! The parts of a request's body, wherever a transport has put them.
//!
//! By /dev/fuse a body comes in one piece: fixed part, names, data, extensions. By io_uring the
//! fixed part comes apart from everything else. A [`Parser`] hides which it was.

use zerocopy::{FromBytes, Immutable, KnownLayout};

use super::abi::InHeader;
use super::decode::Malformed;
use super::request::Name;

/// What follows the header of a request.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Body<'a> {
    /// All of it in one piece.
    Whole(&'a [u8]),
    /// As io_uring has it.
    Split {
        /// The fixed part, with anything behind it: the room for it is larger.
        op_in: &'a [u8],
        /// The rest.
        payload: &'a [u8],
    },
}

/// Takes a body apart from its front. Nothing is read twice.
#[derive(Debug)]
pub(super) struct Parser<'a> {
    /// Where the fixed part is, if that is not the front of `rest`.
    op_in: Option<&'a [u8]>,
    rest: &'a [u8],
    /// Bytes that the header speaks of and that were not taken yet.
    left: usize,
}

impl<'a> Parser<'a> {
    /// A parser for the body of a request of `len` bytes, header included.
    ///
    /// # Errors
    /// [`Malformed`] when that is not the length of what came.
    pub(super) fn new(body: Body<'a>, len: u32) -> Result<Self, Malformed> {
        let len = usize::try_from(len).map_err(|_| Malformed)?;
        let left = len.checked_sub(size_of::<InHeader>()).ok_or(Malformed)?;
        match body {
            Body::Whole(rest) if left == rest.len() => Ok(Self { op_in: None, rest, left }),
            Body::Split { op_in, payload } if left >= payload.len() => {
                Ok(Self { op_in: Some(op_in), rest: payload, left })
            }
            _ => Err(Malformed),
        }
    }

    /// The fixed part. There is one at most, and it comes first.
    pub(super) fn fixed<T: FromBytes + KnownLayout + Immutable>(&mut self) -> Option<T> {
        self.left = self.left.checked_sub(size_of::<T>())?;
        if let Some(op_in) = self.op_in {
            return T::read_from_prefix(op_in).ok().map(|(fixed, _)| fixed);
        }
        let (fixed, rest) = T::read_from_prefix(self.rest).ok()?;
        self.rest = rest;
        Some(fixed)
    }

    /// The extensions at the end, of that many units of 8 bytes.
    ///
    /// # Errors
    /// [`Malformed`] when there is less than that.
    pub(super) fn extensions(&mut self, units: u16) -> Result<&'a [u8], Malformed> {
        let len = usize::from(units).saturating_mul(8);
        let at = self.rest.len().checked_sub(len).ok_or(Malformed)?;
        let (rest, extensions) = self.rest.split_at_checked(at).ok_or(Malformed)?;
        self.left = self.left.checked_sub(len).ok_or(Malformed)?;
        self.rest = rest;
        Ok(extensions)
    }

    /// A name that others follow. The last one is whatever [`Parser::rest`] holds.
    pub(super) fn name(&mut self) -> Option<Name<'a>> {
        let end = self.rest.iter().position(|byte| *byte == 0)?;
        let (name, rest) = self.rest.split_at_checked(end)?;
        self.rest = rest.get(1..)?;
        self.left = self.left.checked_sub(end.checked_add(1)?)?;
        (!name.is_empty()).then_some(Name(name))
    }

    /// Everything that comes after the fixed part.
    pub(super) fn rest(&mut self) -> &'a [u8] {
        self.left = self.left.abs_diff(self.rest.len());
        std::mem::take(&mut self.rest)
    }

    /// Takes whatever there is.
    pub(super) fn skip(&mut self) {
        (self.left, self.rest) = (0, &[]);
    }

    /// Whether all of the body was taken, and there was no more of it than the header says.
    pub(super) fn is_whole(&self) -> bool {
        self.left == 0 && self.rest.is_empty()
    }
}
