//! The transport over /dev/fuse: a request by read(2), a reply by writev(2).

use std::io::{self, IoSlice};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};

use fuser::Errno;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno as SysError;
use tracing::{debug, warn};
use zerocopy::{FromBytes, IntoBytes};

use super::abi::{InHeader, OutHeader, opcode};
use super::body::Body;
use super::crew::{Crew, CrewSize};
use super::post::{Delivery, Post};
use super::reply::{Buffer, Output};
use super::request::Class;
use super::serve::{Answer, Frontend, Turn};
use super::settings::Settings;

/// A read(2) that took less than this did not have to wait: others may be in the queue, too.
const AT_ONCE: Duration = Duration::from_micros(2);

/// Bytes that a buffer may keep for good: more than what is no file data ever needs.
const KEPT: usize = 128 << 10;
/// After this time without a request, the rest goes back to the kernel.
const IDLE: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };

/// Who is told when a worker stops: the kernel has hung up, or reading failed.
pub(crate) type OnStop = Box<dyn Fn(io::Result<()>) + Send + Sync>;

/// Who is told when the kernel has the answer to INIT.
pub(crate) type OnInit = Box<dyn Fn() + Send + Sync>;

/// How a mount is served.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Effort {
    pub(crate) size: CrewSize,
    /// How long a worker looks for the next request before it sleeps; zero: not at all.
    pub(crate) busy_poll: Duration,
}

/// The /dev/fuse descriptors of a mount and those who serve them.
pub(crate) struct Classic {
    frontend: Arc<Frontend>,
    channels: Vec<Arc<Channel>>,
    crew: Crew,
    busy_poll: Duration,
    on_stop: OnStop,
    hired: AtomicUsize,
    itself: Weak<Self>,
    on_init: OnInit,
    post: Post,
}

/// What a worker reads requests into and makes replies in. Nobody else can tell when it is of no use.
struct Buffers {
    request: Buffer,
    reply: Buffer,
    /// Bytes of either that may take memory.
    used: usize,
}

impl Buffers {
    fn new(settings: &Settings) -> io::Result<Self> {
        let request = Buffer::new(settings.max_request())?;
        Ok(Self { request, reply: Buffer::new(settings.max_reply())?, used: 0 })
    }

    fn are_large(&self) -> bool {
        self.used > KEPT
    }

    fn discard(&mut self) {
        self.request.discard();
        self.reply.discard();
        self.used = 0;
    }
}

/// Whether a worker goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Flow {
    Continue,
    Stop,
}

impl Classic {
    /// A transport over `channels`, one at least, and what it has to be [run](Self::run) with.
    pub(crate) fn new(
        frontend: Arc<Frontend>,
        channels: Vec<OwnedFd>,
        effort: Effort,
        (on_init, on_stop): (OnInit, OnStop),
    ) -> (Arc<Self>, Delivery) {
        let channels: Vec<_> = channels.into_iter().map(|fd| Arc::new(Channel::new(fd))).collect();
        let (post, delivery) = Post::new();
        if let Some(first) = channels.first().map(Arc::downgrade) {
            // A message without a request's number is a notification, with its code for an error.
            let post = post.clone();
            frontend.notify_by(Box::new(move |code, payload| {
                if let Some(channel) = first.upgrade() {
                    post.write(channel, 0, code, payload);
                }
            }));
        }
        let transport = Arc::new_cyclic(|itself| Self {
            frontend,
            channels,
            crew: Crew::new(effort.size),
            busy_poll: effort.busy_poll,
            on_init,
            on_stop,
            hired: AtomicUsize::new(0),
            itself: Weak::clone(itself),
            post,
        });
        (transport, delivery)
    }

    /// Starts the first worker, which starts others when they are needed, or the overseer does. Then
    /// writes what other threads have to say, until the end.
    ///
    /// All threads that write to the channels begin here: see `sandbox`.
    pub(crate) fn run(&self, delivery: Delivery) {
        if let Err(error) = self.start() {
            (self.on_stop)(Err(error));
        }
        delivery.run();
    }

    fn start(&self) -> io::Result<()> {
        self.hire()?;
        let Some(itself) = self.itself.upgrade() else { return Ok(()) };
        let oversee = move || {
            while let Some(hire) = itself.crew.oversee() {
                if hire {
                    itself.hire_reader();
                }
            }
        };
        thread::Builder::new().name("overseer".into()).spawn(oversee).map(drop)
    }

    fn hire(&self) -> io::Result<()> {
        let Some(itself) = self.itself.upgrade() else { return Ok(()) };
        let number = self.hired.fetch_add(1, Ordering::Relaxed);
        let work = move || {
            let result = itself.work(number);
            if let Some(stopped) = result.transpose() {
                itself.crew.end();
                itself.post.close();
                (itself.on_stop)(stopped);
            }
        };
        thread::Builder::new().name(format!("fuse-{number}")).spawn(work).map(drop)
    }

    /// This thread may have to wait for a moment. If it serves a request and there are others,
    /// another thread reads on in its place.
    pub(crate) fn relieve_if_asked(&self) {
        // All channels have the same queue.
        if Crew::is_alone() && self.channels.first().is_some_and(|channel| channel.is_ready()) {
            self.relieve();
        }
    }

    /// This thread is going to be busy. If it serves a request, another one reads on in its place.
    fn relieve(&self) {
        if self.crew.relieve() {
            self.hire_reader();
        }
    }

    fn hire_reader(&self) {
        if let Err(error) = self.hire() {
            warn!("no further thread: {error}");
            return self.crew.not_hired();
        }
        let settings = self.frontend.settings();
        let each = settings.max_request().saturating_add(settings.max_reply());
        let total = self.crew.total();
        debug!("{total} threads, {} bytes of buffers at most", total.saturating_mul(each));
    }

    /// Serves until the kernel hangs up, or until there is too little to do (`None`).
    ///
    /// # Errors
    /// When the channel cannot be read.
    fn work(&self, number: usize) -> io::Result<Option<()>> {
        let index = number.checked_rem(self.channels.len()).unwrap_or(0);
        let Some(channel) = self.channels.get(index) else { return Ok(Some(())) };
        let settings = self.frontend.settings();
        let mut buffers = Buffers::new(settings)?;
        loop {
            if buffers.are_large() && !channel.is_ready_within(&IDLE) {
                buffers.discard();
            }
            let begin = Instant::now();
            let Some(bytes) = channel.receive(&mut buffers.request)? else { return Ok(Some(())) };
            let since = Instant::now();
            let at_once = since.duration_since(begin) < AT_ONCE;
            self.crew.took();
            if at_once && channel.is_ready() {
                self.relieve();
            }
            let asked = bytes.len();
            let (flow, replied) = self.serve(bytes, channel, &mut buffers.reply, since);
            buffers.used = buffers.used.max(asked).max(replied);
            if flow == Flow::Stop {
                return Ok(Some(()));
            }
            if buffers.are_large() && self.crew.would_rest() {
                buffers.discard();
            }
            if !self.crew.next() {
                return Ok(None);
            }
            if !self.busy_poll.is_zero() && self.crew.is_calm() {
                channel.look_for(self.busy_poll);
            }
        }
    }

    /// Serves a request that came at `since`. Whether to go on, and the bytes of the reply.
    fn serve(
        &self,
        bytes: &[u8],
        channel: &Arc<Channel>,
        reply: &mut Buffer,
        since: Instant,
    ) -> (Flow, usize) {
        let Ok((header, body)) = InHeader::read_from_prefix(bytes) else {
            warn!("{} bytes of /dev/fuse are no request", bytes.len());
            return (Flow::Continue, 0);
        };
        let mut out = Output::new(reply.bytes());
        let answer = self.answer(&header, body, &mut out);
        match answer {
            Answer::Wait => self.park(&header, body, channel),
            answer => {
                count(&self.frontend, &header, since, &answer);
                channel.send(header.unique, &answer, &out);
            }
        }
        if header.opcode == opcode::INIT {
            (self.on_init)();
        }
        let flow = if matches!(answer, Answer::Last) { Flow::Stop } else { Flow::Continue };
        (flow, out.len())
    }

    fn answer(&self, header: &InHeader, body: &[u8], out: &mut Output<'_>) -> Answer {
        match self.frontend.decode(header, Body::Whole(body)) {
            Ok(call) => {
                match call.request.class() {
                    Class::Long => self.relieve(),
                    Class::Change => self.relieve_if_asked(),
                    // What reads the device is relieved when it does.
                    Class::Quick | Class::Data => {}
                }
                self.frontend.serve(&call, out)
            }
            Err(refused) => refused,
        }
    }

    /// Keeps a request until the file system is there. It is then served by another thread.
    fn park(&self, header: &InHeader, body: &[u8], channel: &Arc<Channel>) {
        let (header, body, since) = (*header, body.to_vec(), Instant::now());
        let (post, channel) = (self.post.clone(), Arc::clone(channel));
        let go_on = move |turn: Turn<'_>| {
            let write = |error, payload: &[u8]| post.write(channel, header.unique, error, payload);
            let Turn::Serve(frontend) = turn else { return write(code(Errno::EINTR), &[]) };
            let Ok(mut reply) = Buffer::new(frontend.settings().max_reply()) else {
                return write(code(Errno::ENOMEM), &[]);
            };
            let mut out = Output::new(reply.bytes());
            let answer = match frontend.decode(&header, Body::Whole(&body)) {
                Ok(call) => frontend.serve(&call, &mut out),
                Err(refused) => refused,
            };
            count(frontend, &header, since, &answer);
            put(&answer, &out, write);
        };
        self.frontend.when_ready(header.unique, Box::new(go_on));
    }
}

fn count(frontend: &Frontend, header: &InHeader, since: Instant, answer: &Answer) {
    frontend.operations.record(header.opcode, since, matches!(answer, Answer::Error(_)));
}

/// One descriptor that speaks FUSE. Replies must go where their request came from.
#[derive(Debug)]
pub(super) struct Channel(OwnedFd);

impl Channel {
    /// A channel over a /dev/fuse descriptor (or, in tests, a SOCK_SEQPACKET socket).
    fn new(fd: OwnedFd) -> Self {
        Self(fd)
    }

    /// Waits for a request; `None` when the kernel has hung up.
    ///
    /// # Errors
    /// Anything that waiting again would not cure.
    fn receive<'b>(&self, buffer: &'b mut Buffer) -> io::Result<Option<&'b [u8]>> {
        let room = buffer.bytes();
        let len = loop {
            match rustix::io::read(&self.0, &mut *room) {
                // A request that was interrupted before it could be read leaves ENOENT.
                Err(SysError::INTR | SysError::AGAIN | SysError::NOENT) => {}
                Err(SysError::CONNABORTED) => {
                    warn!("the connection to the kernel was aborted");
                    return Ok(None);
                }
                Err(SysError::NODEV | SysError::CONNRESET) | Ok(0) => return Ok(None),
                Err(error) => return Err(error.into()),
                Ok(len) => break len,
            }
        };
        Ok(Some(room.get(..len).unwrap_or_default()))
    }

    /// Whether there is something to read.
    fn is_ready(&self) -> bool {
        self.is_ready_within(&Timespec { tv_sec: 0, tv_nsec: 0 })
    }

    /// Whether there is something to read before that time has gone by.
    fn is_ready_within(&self, patience: &Timespec) -> bool {
        let mut fds = [PollFd::new(&self.0, PollFlags::IN)];
        poll(&mut fds, Some(patience)).is_ok_and(|ready| ready > 0)
    }

    /// Looks, for some time, whether there is something to read.
    fn look_for(&self, time: Duration) {
        let start = Instant::now();
        while !self.is_ready() && start.elapsed() < time {
            std::hint::spin_loop();
        }
    }

    /// Sends an answer, if there is one.
    fn send(&self, unique: u64, answer: &Answer, output: &Output<'_>) {
        put(answer, output, |error, payload| self.write(unique, error, payload));
    }

    /// A reply that the kernel does not take is for a request that is gone: nobody waits for it.
    pub(super) fn write(&self, unique: u64, error: i32, payload: &[u8]) {
        let len = size_of::<OutHeader>().saturating_add(payload.len());
        let header = OutHeader { len: u32::try_from(len).unwrap_or(0), error, unique };
        let parts = [IoSlice::new(header.as_bytes()), IoSlice::new(payload)];
        if let Err(error) = rustix::io::writev(&self.0, &parts) {
            debug!("reply to request {unique} was not taken: {error}");
        }
    }
}

/// Puts an answer into the error and the payload of a message, if it is one.
fn put(answer: &Answer, output: &Output<'_>, write: impl FnOnce(i32, &[u8])) {
    match answer {
        Answer::Reply | Answer::Last => write(0, output.bytes()),
        Answer::Error(errno) => write(code(*errno), &[]),
        Answer::Silent | Answer::Wait => {}
    }
}

/// An error, as messages have it.
fn code(errno: Errno) -> i32 {
    errno.code().saturating_neg()
}
