use std::io::IoSlice;
use std::os::fd::{AsFd, BorrowedFd};

use fuse4fs_protocol::{CacheSize, EngineOptions, FdList, LogLevel};
use rustix::fs::{FileType, fstat};
use rustix::io::{FdFlags, fcntl_getfd};
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SocketFlags, SocketType, recv,
    sendmsg, socketpair,
};

use super::*;

/// The other end of the conversation.
struct Helper(OwnedFd);

fn pair() -> (Helper, Greeting) {
    let flags = SocketFlags::CLOEXEC;
    let (ours, theirs) =
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
    (Helper(ours), Greeting::new(theirs).unwrap())
}

impl Helper {
    fn send_bytes(&self, bytes: &[u8], fds: &[BorrowedFd<'_>]) {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS + 8))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        assert!(fds.is_empty() || control.push(SendAncillaryMessage::ScmRights(fds)));
        sendmsg(&self.0, &[IoSlice::new(bytes)], &mut control, SendFlags::empty()).unwrap();
    }

    fn send(&self, message: &ToServer, fds: &[BorrowedFd<'_>]) {
        self.send_bytes(&fuse4fs_protocol::encode(message).unwrap(), fds);
    }

    fn receive(&self) -> ToHelper {
        let mut bytes = vec![0; MAX_MESSAGE];
        let (len, _) = recv(&self.0, &mut bytes[..], RecvFlags::empty()).unwrap();
        fuse4fs_protocol::decode(&bytes[..len]).unwrap()
    }
}

fn greeted() -> (Helper, Greeted) {
    let (helper, greeting) = pair();
    helper.send(&ToServer::Hello(Hello::ours()), &[]);
    let greeted = greeting.welcome().unwrap();
    assert!(matches!(helper.receive(), ToHelper::Welcome(welcome) if welcome.check().is_ok()));
    (helper, greeted)
}

/// What becomes of a request for a mount.
fn mounted(greeted: Greeted) -> Result<(Conversation, MountRequest, Handed), SessionError> {
    match greeted.request()? {
        (conversation, Asked::Mount(request, handed)) => Ok((conversation, *request, handed)),
        (_, Asked::Check(..)) => panic!("a check"),
    }
}

fn request(roles: &[FdRole], read_only: bool) -> MountRequest {
    MountRequest {
        fds: FdList::try_from(roles.to_vec()).unwrap(),
        device_name: Text::lossy("sdb1"),
        server_pid: 4711,
        read_only,
        request_timeout: 300,
        log_level: LogLevel::Info,
        serving: ServingOptions::default(),
        engine: EngineOptions::default(),
    }
}

fn mount(roles: &[FdRole]) -> ToServer {
    ToServer::Mount(request(roles, true))
}

/// /dev/null, opened with these flags.
fn null(flags: OFlags) -> OwnedFd {
    rustix::fs::open("/dev/null", flags, rustix::fs::Mode::empty()).unwrap()
}

/// The error of a request with these roles and that many descriptors.
fn refused(roles: &[FdRole], count: usize) -> String {
    let (helper, greeted) = greeted();
    let null = null(OFlags::RDONLY);
    helper.send(&mount(roles), &vec![null.as_fd(); count]);
    mounted(greeted).unwrap_err().to_string()
}

#[test]
fn a_whole_conversation_hands_over_what_is_needed() {
    let (helper, greeted) = greeted();
    let (fuse, pressure) = (null(OFlags::RDWR), null(OFlags::RDWR));
    let directory = std::fs::File::open("/").unwrap();
    let roles = [FdRole::MemoryPressure, FdRole::Fuse, FdRole::Device, FdRole::FuseClone];
    helper.send(&mount(&roles), &[pressure.as_fd(), fuse.as_fd(), directory.as_fd(), fuse.as_fd()]);
    let (conversation, request, handed) = mounted(greeted).unwrap();
    assert_eq!(request.device_name.as_str(), "sdb1");
    let kind = FileType::from_raw_mode(fstat(&handed.device).unwrap().st_mode);
    assert_eq!(kind, FileType::Directory);
    assert!(fcntl_getfd(&handed.fuse).unwrap().contains(FdFlags::CLOEXEC));
    assert_eq!((handed.clones.len(), handed.numbers().count()), (1, 3));
    assert!(handed.pressure.is_some());

    conversation.progress(Phase::Replay, 1, 2);
    conversation.serving(false).unwrap();
    assert!(matches!(helper.receive(), ToHelper::Progress { done: 1, total: 2, .. }));
    assert_eq!(helper.receive(), ToHelper::Serving { read_only: false });
}

#[test]
fn descriptors_are_open_for_what_the_mount_does_and_no_more() {
    let (ro, rw) = (OFlags::RDONLY, OFlags::RDWR);
    let direct = OFlags::DIRECT;
    let file = tempfile::NamedTempFile::new_in(env!("CARGO_MANIFEST_DIR")).unwrap();
    let open = |flags| rustix::fs::open(file.path(), flags, rustix::fs::Mode::empty()).unwrap();
    let roles = [FdRole::Device, FdRole::DeviceDirect, FdRole::Journal, FdRole::Fuse, FdRole::Load];
    // The request's read-only, then the mode of each descriptor, then whether that is right.
    for (read_only, modes, right) in [
        (true, [ro, ro | direct, ro, rw, ro], true),
        (false, [rw, rw | direct, rw, rw, ro], true),
        (true, [rw, ro | direct, ro, rw, ro], false),
        (true, [ro, rw | direct, ro, rw, ro], false),
        (true, [ro, ro, ro, rw, ro], false),
        (true, [ro, ro | direct, rw, rw, ro], false),
        (true, [ro, ro | direct, ro, ro, ro], false),
        (false, [ro, rw | direct, rw, rw, ro], false),
        (false, [OFlags::WRONLY, rw | direct, rw, rw, ro], false),
        (false, [rw, ro | direct, rw, rw, ro], false),
        (false, [rw, rw | direct, ro, rw, ro], false),
        (true, [ro, ro | direct, ro, rw, rw], false),
    ] {
        let (helper, greeted) = greeted();
        let fds = modes.map(open);
        let request = ToServer::Mount(request(&roles, read_only));
        helper.send(&request, &fds.each_ref().map(AsFd::as_fd));
        let result = mounted(greeted);
        assert_eq!(result.is_ok(), right, "read-only {read_only}, {modes:?}: {result:?}");
        if let Ok((_, _, handed)) = result {
            assert!(handed.direct.is_some() && handed.journal.is_some() && handed.load.is_some());
        }
    }
}

#[test]
fn serving_options_have_ranges() {
    let most = ServingOptions {
        threads: MAX_THREADS,
        busy_poll: Some(MAX_BUSY_POLL),
        ..ServingOptions::default()
    };
    let threads = ServingOptions { threads: MAX_THREADS + 1, ..most.clone() };
    let poll = ServingOptions { busy_poll: Some(MAX_BUSY_POLL + 1), ..most.clone() };
    let cache = |least, most| ServingOptions {
        cache: CacheSize { least, most },
        ..ServingOptions::default()
    };
    let caches = [
        (cache(MIN_CACHE, MAX_CACHE), true),
        (cache(MIN_CACHE - 1, MAX_CACHE), false),
        (cache(MIN_CACHE, MAX_CACHE + 1), false),
        (cache(MAX_CACHE, MIN_CACHE), false),
    ];
    for (serving, right) in
        [(most, true), (threads, false), (poll, false)].into_iter().chain(caches)
    {
        let (helper, greeted) = greeted();
        let roles = [FdRole::Device, FdRole::Fuse];
        let request = MountRequest { serving, ..request(&roles, true) };
        let fds = [null(OFlags::RDONLY), null(OFlags::RDWR)];
        helper.send(&ToServer::Mount(request), &fds.each_ref().map(AsFd::as_fd));
        assert_eq!(mounted(greeted).is_ok(), right);
    }
}

#[test]
fn a_helper_that_hangs_up_is_noticed_at_once() {
    let (helper, greeting) = pair();
    drop(helper);
    assert!(matches!(greeting.welcome().unwrap_err(), SessionError::HungUp));
}

#[test]
fn another_version_is_told_so() {
    let (helper, greeting) = pair();
    let future = Hello { min: 1000, max: 1001, ..Hello::ours() };
    helper.send(&ToServer::Hello(future), &[]);
    assert!(matches!(greeting.welcome().unwrap_err(), SessionError::Version(_)));
    assert!(matches!(helper.receive(), ToHelper::Refused { .. }));
}

#[test]
fn a_stranger_is_not_served() {
    let (helper, greeting) = pair();
    helper.send_bytes(b"GET / HTTP/1.1", &[]);
    assert!(matches!(greeting.welcome().unwrap_err(), SessionError::Codec(_)));
}

#[test]
fn messages_out_of_order_are_refused() {
    let (helper, greeting) = pair();
    helper.send(&mount(&[]), &[]);
    assert!(matches!(greeting.welcome().unwrap_err(), SessionError::Protocol(_)));
    let (helper, greeted) = greeted();
    helper.send(&ToServer::Hello(Hello::ours()), &[]);
    assert!(matches!(mounted(greeted).unwrap_err(), SessionError::Protocol(_)));
}

#[test]
fn descriptors_come_with_the_mount_request_only() {
    let (helper, greeting) = pair();
    let null = std::fs::File::open("/dev/null").unwrap();
    helper.send(&ToServer::Hello(Hello::ours()), &[null.as_fd()]);
    assert!(matches!(greeting.welcome().unwrap_err(), SessionError::Protocol(_)));
}

#[test]
fn descriptors_are_as_many_as_announced() {
    let both = [FdRole::Device, FdRole::Fuse];
    assert!(refused(&both, 1).contains("not as announced"));
    assert!(refused(&both, 3).contains("not as announced"));
    assert!(refused(&[FdRole::Device], 1).contains("missing"));
    assert!(refused(&[FdRole::Device, FdRole::Device], 2).contains("same role"));
    assert!(refused(&[FdRole::Device, FdRole::Fuse], 2).contains("not open in the way"));
}

#[test]
fn a_message_that_was_cut_is_refused() {
    assert!(refused(&[FdRole::Fuse; MAX_FDS], MAX_FDS + 8).contains("cut short"));
    let (helper, greeted) = greeted();
    helper.send_bytes(&vec![0; MAX_MESSAGE + 2], &[]);
    assert!(matches!(mounted(greeted).unwrap_err(), SessionError::Protocol(_)));
}

fn check(roles: &[FdRole]) -> ToServer {
    ToServer::Check(CheckRequest {
        fds: FdList::try_from(roles.to_vec()).unwrap(),
        device_name: Text::lossy("sdb1"),
        log_level: LogLevel::Info,
        offset: 1 << 20,
        sizelimit: 0,
        superblock: None,
        noload: false,
    })
}

#[test]
fn a_check_takes_a_device_and_perhaps_a_journal_to_read() {
    let (ro, rw) = (OFlags::RDONLY, OFlags::RDWR);
    let (device, journal) = (FdRole::Device, FdRole::Journal);
    for (roles, modes, right) in [
        (&[device][..], &[ro][..], true),
        (&[device, journal], &[ro, ro], true),
        (&[device], &[rw], false),
        (&[device, journal], &[ro, rw], false),
        (&[device, journal], &[ro], false),
        (&[device], &[ro, ro], false),
        (&[], &[], false),
        (&[journal], &[ro], false),
        (&[device, device], &[ro, ro], false),
        (&[device, FdRole::Fuse], &[ro, rw], false),
        (&[device, journal, journal], &[ro, ro, ro], false),
    ] {
        let (helper, greeted) = greeted();
        let fds: Vec<OwnedFd> = modes.iter().map(|mode| null(*mode)).collect();
        let fds: Vec<BorrowedFd<'_>> = fds.iter().map(AsFd::as_fd).collect();
        helper.send(&check(roles), &fds);
        let asked = greeted.request();
        assert_eq!(asked.is_ok(), right, "{roles:?} {modes:?}");
        if let Ok((_, asked)) = asked {
            let Asked::Check(request, devices) = asked else { panic!("{asked:?}") };
            assert_eq!((request.offset, devices.numbers().count()), (1 << 20, roles.len()));
        }
    }
}
